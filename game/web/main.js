// Brings the parts together: input, the 60 Hz clock, the page around the canvas, and the server.

import * as api from "./api.js";
import { TICKS_PER_SECOND, newRound, step } from "./core.js";
import { paint, prepare } from "./draw.js";
import * as quips from "./quips.js";

const TICK_MS = 1000 / TICKS_PER_SECOND;
// After a pause of the browser itself the game goes on where it was instead of racing to catch up.
const CATCH_UP_MS_MAX = 250;
// A tap that was meant as a flap must not start the next round.
const RESTART_AFTER_MS = 600;
const NAME_CHARS_MAX = 40;

const element = (id) => document.getElementById(id);
const canvas = element("sky");
const player = element("player");
const still = window.matchMedia("(prefers-reduced-motion: reduce)");
const storage = safeStorage();

let context = prepare(canvas);
let round = newRound(0);
let rounds = 0;
let paused = false;
let flapWanted = false;
let endedAt = 0;
let behindMs = 0;
let lastFrame = performance.now();
let best = Number(storage.getItem("drafty-bird-best")) || null;
let mine = null;

// Storage may be refused altogether; the game then simply forgets.
function safeStorage() {
  try {
    window.localStorage.getItem("drafty-bird-best");
    return window.localStorage;
  } catch {
    const kept = new Map();
    return { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, String(value)) };
  }
}

const say = (text) => { element("status").textContent = text; };

function startRound() {
  round = newRound(crypto.getRandomValues(new Uint32Array(1))[0]);
  rounds += 1;
  flapWanted = false;
  behindMs = 0;
  setPaused(false);
  say(quips.ready);
}

function setPaused(on) {
  if (paused === on) return;
  paused = on;
  element("pause").setAttribute("aria-pressed", String(on));
  say(on ? quips.paused : round.started ? "And on we go." : quips.ready);
}

function act() {
  if (paused) {
    setPaused(false);
  } else if (round.alive) {
    flapWanted = true;
  } else if (performance.now() - endedAt > RESTART_AFTER_MS) {
    startRound();
  }
}

function tick() {
  const before = round;
  round = step(round, flapWanted);
  flapWanted = false;
  if (!before.started && round.started) {
    api.started();
    say("Mind the draught.");
  }
  if (round.score !== before.score) {
    const line = quips.during(round.score);
    if (line) say(line);
  }
  if (before.alive && !round.alive) ended();
}

function frame(now) {
  if (!paused) {
    behindMs = Math.min(behindMs + now - lastFrame, CATCH_UP_MS_MAX);
    for (; behindMs >= TICK_MS; behindMs -= TICK_MS) tick();
  }
  lastFrame = now;
  paint(context, round, { still: still.matches, message: message(), best });
  requestAnimationFrame(frame);
}

function message() {
  if (paused) return { title: "Paused", text: "Space or tap to go on" };
  if (!round.alive) return { title: `${round.score} ${round.score === 1 ? "duct" : "ducts"}`, text: "Space or tap to fly again" };
  return round.started ? null : { title: "Drafty Bird", text: "Space or tap to flap" };
}

async function ended() {
  endedAt = performance.now();
  const line = quips.ending(round.score, rounds);
  if (best === null || round.score > best) {
    best = round.score;
    storage.setItem("drafty-bird-best", String(best));
  }
  say(line);
  const name = [...player.value.trim()].slice(0, NAME_CHARS_MAX).join("");
  const score = { player: name || "Guest", score: round.score, runId: api.newRunId() };
  mine = score.runId;
  const thisRound = rounds;
  try {
    const answer = await api.send(storage, score);
    if (answer?.stored.runId === score.runId) {
      mine = answer.stored.createdAt + answer.stored.player;
      if (rounds === thisRound && answer.stored.score > 0 && answer.highScore === answer.stored.score) {
        say(`${line} And nobody ever did better!`);
      }
    }
    await showBoard();
  } catch {
    note("The leaderboard is out for a fly. Your score is kept and sent when it is back.");
  }
}

const note = (text) => { element("board-note").textContent = text; };

async function showBoard() {
  const entries = await api.board();
  const lines = entries.map((entry) => {
    const line = document.createElement("li");
    // Names are other people's text: never markup.
    for (const [name, text] of [["name", entry.player], ["points", String(entry.score)]]) {
      const part = document.createElement("span");
      part.className = name;
      part.textContent = text;
      line.append(part);
    }
    line.title = new Date(entry.createdAt).toLocaleString();
    if (entry.createdAt + entry.player === mine) line.className = "mine";
    return line;
  });
  element("board").replaceChildren(...lines);
  note(entries.length === 0 ? "Nobody yet. This could be you." : "");
}

async function refresh() {
  try {
    await api.send(storage, null);
    await showBoard();
  } catch {
    note("The leaderboard is out for a fly. The bird flies without it.");
  }
}

document.addEventListener("keydown", (event) => {
  // Whoever types a name or presses a button does not flap.
  if (event.target instanceof HTMLInputElement || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target instanceof HTMLButtonElement && [" ", "Enter"].includes(event.key)) return;
  if ([" ", "ArrowUp", "w", "W"].includes(event.key)) {
    event.preventDefault();
    if (!event.repeat) act();
  } else if (["p", "P", "Escape"].includes(event.key)) {
    if (round.started && round.alive) setPaused(!paused);
  } else if (["r", "R"].includes(event.key)) {
    startRound();
  }
});

canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  event.preventDefault();
  canvas.focus({ preventScroll: true });
  act();
});

element("restart").addEventListener("click", () => { startRound(); canvas.focus({ preventScroll: true }); });
element("pause").addEventListener("click", () => { if (round.started && round.alive) setPaused(!paused); });
element("who").addEventListener("submit", (event) => { event.preventDefault(); canvas.focus(); });
player.value = storage.getItem("drafty-bird-player") ?? "";
player.addEventListener("change", () => storage.setItem("drafty-bird-player", player.value.trim()));
document.addEventListener("visibilitychange", () => {
  if (document.hidden && round.started && round.alive) setPaused(true);
});
window.addEventListener("resize", () => { context = prepare(canvas); });
window.addEventListener("online", refresh);

startRound();
refresh();
setInterval(refresh, 30_000);
requestAnimationFrame(frame);
