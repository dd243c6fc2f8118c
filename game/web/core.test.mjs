// node --test game/web/

import assert from "node:assert/strict";
import test from "node:test";

import * as api from "./api.js";
import { WORLD, circleTouches, draw, hitsDuct, hitsFloor, isPassed, newRound, nextDuct, step } from "./core.js";
import { during, ending } from "./quips.js";

// A simple player: flaps when it is below the next gap's lower third.
function play(seed, ticksMax) {
  let round = newRound(seed);
  const flaps = [];
  for (let tick = 0; tick < ticksMax && round.alive; tick += 1) {
    const next = round.ducts.find((duct) => duct.x + WORLD.ductWidth > WORLD.birdX - WORLD.birdRadius);
    const flap = round.y > next.gapTop + next.gap * 0.68;
    if (flap) flaps.push(tick);
    round = step(round, flap || tick === 0);
  }
  return { round, flaps };
}

test("a seed and the same flaps give the same round", () => {
  const { round, flaps } = play(7, 4000);
  let again = newRound(7);
  for (let tick = 0; tick < 4000 && again.alive; tick += 1) again = step(again, tick === 0 || flaps.includes(tick));
  assert.deepEqual(again, round);
  assert.notDeepEqual(play(8, 4000).round.ducts, round.ducts);
});

test("the generator is the published one", () => {
  assert.deepEqual(draw(42), [0.6011037519201636, 42 + 0x6D2B79F5]);
});

test("nothing moves before the first flap and after the end", () => {
  const fresh = newRound(1);
  assert.equal(step(fresh, false), fresh);
  let round = step(fresh, true);
  while (round.alive) round = step(round, false);
  assert.equal(step(round, true), round);
  assert.ok(hitsFloor(round.y) && round.score === 0);
});

test("every gap can be flown: a simple player gets far on any seed", () => {
  for (let seed = 1; seed <= 25; seed += 1) {
    const { round } = play(seed, 6000);
    assert.ok(round.score >= 20, `seed ${seed} ended at ${round.score}`);
  }
});

test("each duct counts once", () => {
  const { round } = play(3, 3000);
  const behind = round.ducts.filter((duct) => duct.passed).length;
  assert.equal(round.made - round.ducts.length + behind, round.score);
});

test("gaps stay between ceiling and floor and within reach of the last", () => {
  let duct = newRound(5).ducts[0];
  let random = 5;
  for (let made = 1; made < 500; made += 1) {
    const last = duct;
    [duct, random] = nextDuct(last, made, random);
    assert.ok(duct.gapTop >= WORLD.margin && duct.gapTop + duct.gap <= WORLD.floor - WORLD.margin);
    assert.ok(Math.abs(duct.gapTop - last.gapTop) <= 190 && duct.gap >= WORLD.gapEnd);
  }
});

test("collisions", () => {
  const duct = { x: WORLD.birdX - 10, gapTop: 200, gap: 150, passed: false };
  for (const [y, hit] of [[275, false], [214, true], [216, false], [336, true], [334, false], [-50, true]]) {
    assert.equal(hitsDuct(y, duct), hit, `y ${y}`);
  }
  assert.equal(hitsDuct(100, { ...duct, x: WORLD.birdX + WORLD.birdRadius + 1 }), false);
  assert.equal(circleTouches(0, 0, 5, 3, 3, 9, 9), true);
  assert.equal(circleTouches(0, 0, 5, 4, 4, 9, 9), false);
  assert.equal(isPassed({ x: WORLD.birdX - WORLD.ductWidth - 1 }), true);
  assert.equal(isPassed({ x: WORLD.birdX - WORLD.ductWidth }), false);
});

test("there is something to say about every score", () => {
  for (let score = 0; score < 300; score += 1) assert.ok(ending(score, score).length > 10);
  assert.equal(during(7), null);
  assert.match(during(10), /Ten/);
});

test("a score that could not be sent is kept and sent once", async (t) => {
  const kept = new Map();
  const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) };
  const sent = [];
  let status = 503;
  t.mock.method(globalThis, "fetch", async (path, options) => {
    sent.push(JSON.parse(options.body).runId);
    return Response.json({ stored: { runId: sent.at(-1) }, highScore: 1 }, { status });
  });
  await assert.rejects(api.send(storage, { runId: "one", score: 1 }));
  await assert.rejects(api.send(storage, { runId: "two", score: 2 }));
  assert.deepEqual(api.remembered(storage).map((score) => score.runId), ["one", "two"]);
  status = 201;
  assert.equal((await api.send(storage, null)).stored.runId, "two");
  assert.deepEqual(sent, ["one", "one", "one", "two"]);
  assert.deepEqual(api.remembered(storage), []);
  status = 400;
  assert.equal(await api.send(storage, { runId: "bad" }), null);
  assert.deepEqual(api.remembered(storage), []);
});
