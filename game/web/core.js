// The game itself: pure functions over plain values at 60 ticks a second. A seed and a list of the ticks at which the
// player flapped give the same round on every machine. Nothing here draws, waits, or talks to anyone.

export const TICKS_PER_SECOND = 60;

// Lengths in units of the drawing, 480 wide and 640 high; speeds in units per tick.
export const WORLD = Object.freeze({
  width: 480,
  height: 640,
  floor: 584,
  birdX: 130,
  birdRadius: 15,
  gravity: 0.36,
  flap: -6.4,
  fallMax: 9.5,
  ductWidth: 68,
  ductSpacing: 220,
  gapStart: 178,
  gapEnd: 132,
  speedStart: 2.4,
  speedEnd: 3.4,
  // Ducts after which it does not get harder.
  hardest: 40,
  margin: 60,
});

// A round before its first flap. The bird hovers until then.
export function newRound(seed) {
  const first = { x: WORLD.width + 80, gapTop: WORLD.floor / 2 - WORLD.gapStart / 2, gap: WORLD.gapStart, passed: false };
  return Object.freeze({
    tick: 0, started: false, alive: true, y: WORLD.height * 0.42, velocity: 0, score: 0, ducts: [first], made: 1, random: seed >>> 0,
  });
}

// mulberry32: the next number from 0 to 1, and the state after it.
export function draw(state) {
  const next = (state + 0x6D2B79F5) >>> 0;
  let t = Math.imul(next ^ (next >>> 15), 1 | next);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return [((t ^ (t >>> 14)) >>> 0) / 4294967296, next];
}

// How far the difficulty has risen after so many ducts, from 0 to 1.
export const difficulty = (ducts) => Math.min(ducts / WORLD.hardest, 1);

const between = (from, to, share) => from + (to - from) * share;

export const speed = (score) => between(WORLD.speedStart, WORLD.speedEnd, difficulty(score));

// The duct to follow `last`; its gap is never further up or down than a bird can fly in time.
export function nextDuct(last, made, random) {
  const [share, after] = draw(random);
  const gap = between(WORLD.gapStart, WORLD.gapEnd, difficulty(made));
  const reach = 190;
  const lowest = Math.max(WORLD.margin, last.gapTop - reach);
  const highest = Math.min(WORLD.floor - WORLD.margin - gap, last.gapTop + reach);
  return [{ x: last.x + WORLD.ductSpacing, gapTop: between(lowest, highest, share), gap, passed: false }, after];
}

// Whether a circle touches a rectangle.
export function circleTouches(x, y, radius, left, top, right, bottom) {
  const dx = x - Math.min(Math.max(x, left), right);
  const dy = y - Math.min(Math.max(y, top), bottom);
  return dx * dx + dy * dy < radius * radius;
}

export function hitsDuct(y, duct) {
  const { birdX, birdRadius, ductWidth, floor } = WORLD;
  const right = duct.x + ductWidth;
  return circleTouches(birdX, y, birdRadius, duct.x, -1000, right, duct.gapTop)
    || circleTouches(birdX, y, birdRadius, duct.x, duct.gapTop + duct.gap, right, floor);
}

export const hitsFloor = (y) => y + WORLD.birdRadius >= WORLD.floor;

// A duct counts once its far edge is behind the bird's middle.
export const isPassed = (duct) => duct.x + WORLD.ductWidth < WORLD.birdX;

// One tick later. A round that ended stays as it is.
export function step(round, flap) {
  if (!round.alive || (!round.started && !flap)) return round;
  const velocity = flap ? WORLD.flap : Math.min(round.velocity + WORLD.gravity, WORLD.fallMax);
  // The ceiling is soft: it stops the bird without hurting it.
  const y = Math.max(round.y + velocity, WORLD.birdRadius);
  const shift = speed(round.score);
  let { score, made, random } = round;
  const ducts = [];
  for (const duct of round.ducts) {
    const moved = { ...duct, x: duct.x - shift };
    if (!moved.passed && isPassed(moved)) {
      moved.passed = true;
      score += 1;
    }
    if (moved.x + WORLD.ductWidth > -20) ducts.push(moved);
  }
  while (ducts[ducts.length - 1].x < WORLD.width + 20) {
    const [duct, after] = nextDuct(ducts[ducts.length - 1], made, random);
    ducts.push(duct);
    made += 1;
    random = after;
  }
  const alive = !hitsFloor(y) && !ducts.some((duct) => hitsDuct(y, duct));
  return Object.freeze({ tick: round.tick + 1, started: true, alive, y, velocity, score, ducts, made, random });
}
