// Talks to the server, and never gets in the way of the game: every call has a time limit, a score that could not be
// sent is kept and sent again later with the same run identity, so that it counts once.

const TIMEOUT_MS = 4000;
const KEPT_MAX = 20;
const STORE = "drafty-bird-unsent";

async function call(path, options = {}) {
  const response = await fetch(path, { ...options, signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!response.ok) {
    const fault = new Error(`${path} answered ${response.status}`);
    // 4xx but for 408 and 429: sending the same again would be refused again.
    fault.final = response.status >= 400 && response.status < 500 && ![408, 429].includes(response.status);
    throw fault;
  }
  return response.json();
}

const post = (path, body) => call(path, {
  method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
});

export function newRunId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  // Plain http on another machine's address has no randomUUID.
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export const board = async () => (await call("/leaderboard")).leaderboard;

// Only a count on the server: whether it arrives does not matter to the player.
export const started = () => post("/game-start", {}).catch(() => {});

export function remembered(storage) {
  try {
    const kept = JSON.parse(storage.getItem(STORE) ?? "[]");
    return Array.isArray(kept) ? kept.slice(-KEPT_MAX) : [];
  } catch {
    return [];
  }
}

export function remember(storage, kept) {
  try {
    storage.setItem(STORE, JSON.stringify(kept.slice(-KEPT_MAX)));
  } catch {
    // Private windows may refuse; then the score is lost with the page.
  }
}

// Sends everything unsent, oldest first, and returns the answer to the last one that arrived.
// Throws if something is still unsent.
export async function send(storage, score) {
  let kept = remembered(storage);
  if (score) kept.push(score);
  remember(storage, kept);
  let answer = null;
  while (kept.length > 0) {
    try {
      answer = await post("/score", kept[0]);
    } catch (fault) {
      if (!fault.final) throw fault;
    }
    // Read again: another tab may have sent or kept something meanwhile.
    const sent = kept[0].runId;
    kept = remembered(storage).filter((other) => other.runId !== sent);
    remember(storage, kept);
  }
  return answer;
}
