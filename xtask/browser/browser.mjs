// Drives a real Chromium: plays one round of the game as a person would, or draws a terminal's screen.
//   browser.mjs play URL [PICTURE]      fails unless the round's score reaches the leaderboard
//   browser.mjs terminal FILE PICTURE   FILE: a screen with SGR colours

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { strict as assert } from "node:assert";

const require = createRequire(`${process.env.DBIRD_BROWSER_MODULES}/`);
const { chromium } = require("playwright-core");

// Staying above this line (of 640) takes the bird through the first duct, whose gap is in the middle of the sky.
const LEVEL = 318;
// The picture is taken in mid-flight, and after that long nobody flaps any more.
const PICTURE_AFTER_MS = 3_000;
const FLAP_FOR_MS = 30_000;

const flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

// Runs in the page: looks for the bird's yellow in the canvas, as a player does, and flaps when it has sunk too far.
function autopilot([level, forMs]) {
  const canvas = document.getElementById("sky");
  const until = performance.now() + forMs;
  const look = () => {
    const scale = canvas.width / 480;
    const column = canvas.getContext("2d").getImageData(Math.round(128 * scale), 0, 1, canvas.height).data;
    let lowest = -1;
    for (let y = 0; y < canvas.height * 0.9; y += 1) {
      const [r, g, b] = column.subarray(y * 4, y * 4 + 3);
      if (r > 230 && g > 150 && g < 200 && b < 80) lowest = y / scale;
    }
    if (lowest > level) document.body.dispatchEvent(new KeyboardEvent("keydown", { key: " ", bubbles: true, cancelable: true }));
    if (performance.now() < until && !document.querySelector("#board li.mine")) requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}

async function play(page, url, picture) {
  const troubles = [];
  page.on("pageerror", (error) => troubles.push(String(error)));
  page.on("console", (message) => { if (message.type() === "error") troubles.push(message.text()); });
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith("data:")) troubles.push(`asked another host: ${request.url()}`);
  });
  const others = [["Ada", 41], ["Grace", 37], ["Linus", 12], ["Żółw", 9], ["Zoë", 3]];
  for (const [player, score] of others) {
    const answer = await fetch(`${url}score`, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ player, score }),
    });
    assert.equal(answer.status, 201);
  }
  await page.goto(url);
  await page.fill("#player", "Browser");
  await page.locator("#board li").first().waitFor();
  await page.locator("#sky").click();
  await page.evaluate(autopilot, [LEVEL, FLAP_FOR_MS]);
  if (picture) {
    await page.waitForTimeout(PICTURE_AFTER_MS);
    await page.screenshot({ path: picture });
  }
  // Let it fall. The score is posted, and the board shows the player.
  await page.locator("#board li.mine").waitFor({ timeout: 60_000 });
  const { leaderboard } = await (await fetch(`${url}leaderboard`)).json();
  const mine = leaderboard.find((entry) => entry.player === "Browser");
  assert.ok(mine, "the round is on the leaderboard");
  assert.ok(mine.score >= 1, `the bird passed at least one duct, not ${mine.score}`);
  const shown = await page.locator("#board li.mine").innerText();
  assert.match(shown, /Browser/);
  assert.deepEqual(troubles, []);
  console.log(`played a round in Chromium: ${mine.score} ducts, on the leaderboard`);
}

const escape = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
const COLOURS = ["#000000", "#e06c75", "#04B290", "#FCAF1F", "#2597EC", "#c678dd", "#56b6c2", "#dfe6ea"];

function html(screen) {
  let style = { bold: false, dim: false, colour: null };
  let out = "";
  for (const part of screen.trimEnd().split(/(\x1b\[[0-9;]*m)/)) {
    const codes = /^\x1b\[([0-9;]*)m$/.exec(part);
    if (!codes) {
      const css = [style.bold ? "font-weight:700" : "", style.dim ? "opacity:.6" : "", style.colour ? `color:${style.colour}` : ""];
      out += `<span style="${css.filter(Boolean).join(";")}">${escape(part)}</span>`;
      continue;
    }
    for (const code of codes[1].split(";").map(Number)) {
      if (code === 0) style = { bold: false, dim: false, colour: null };
      else if (code === 1) style.bold = true;
      else if (code === 2) style.dim = true;
      else if (code === 22) style = { ...style, bold: false, dim: false };
      else if (code === 39) style.colour = null;
      else if (code >= 30 && code <= 37) style.colour = COLOURS[code - 30];
      else if (code >= 90 && code <= 97) style.colour = COLOURS[code - 90];
    }
  }
  return `<!doctype html><meta charset="utf-8"><body style="margin:0;background:#10202c"><pre id="t" style="display:inline-block;margin:0;padding:22px 26px;
    color:#dfe6ea;background:#10202c;font:15px/1.45 'DejaVu Sans Mono',monospace">${out}</pre></body>`;
}

async function terminal(page, file, picture) {
  await page.setContent(html(readFileSync(file, "utf8")));
  await page.locator("#t").screenshot({ path: picture });
}

const [what, ...rest] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: flags });
try {
  const page = await browser.newPage({ viewport: { width: 1000, height: 820 } });
  await ({ play, terminal })[what](page, ...rest);
} finally {
  await browser.close();
}
