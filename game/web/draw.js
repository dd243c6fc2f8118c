// Draws a round. Reads it only; what happens in the game is decided elsewhere. Nothing flashes, and with reduced motion
// asked for the background stands still.

import { WORLD } from "./core.js";

const DEEP = "#1C4C75";
const MINT = "#04B290";
const SUN = "#FCAF1F";
const SKY = "#2597EC";
const INK = "#000000";
const WHITE = "#FFFFFF";
const MIST = "#F0F7F9";
const FONT = "Lato, system-ui, sans-serif";

export function prepare(canvas) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  canvas.width = WORLD.width * ratio;
  canvas.height = WORLD.height * ratio;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

export function paint(context, round, { still, message, best }) {
  const drift = still ? 0 : round.tick;
  sky(context, drift);
  for (const duct of round.ducts) drawDuct(context, duct);
  ground(context, drift);
  bird(context, round, still);
  if (round.started) points(context, round.score);
  if (message) banner(context, message, best);
}

function sky(context, drift) {
  const gradient = context.createLinearGradient(0, 0, 0, WORLD.floor);
  gradient.addColorStop(0, SKY);
  gradient.addColorStop(1, MIST);
  context.fillStyle = gradient;
  context.fillRect(0, 0, WORLD.width, WORLD.height);
  context.fillStyle = WHITE;
  context.globalAlpha = 0.75;
  for (const [x, y, size, pace] of [[60, 90, 26, 0.25], [300, 150, 20, 0.35], [190, 260, 16, 0.5], [430, 60, 22, 0.3]]) {
    const span = WORLD.width + 160;
    cloud(context, ((((x - drift * pace) % span) + span) % span) - 80, y, size);
  }
  context.globalAlpha = 1;
  // The draught.
  context.strokeStyle = WHITE;
  context.globalAlpha = 0.5;
  context.lineWidth = 2;
  context.lineCap = "round";
  for (let n = 0; n < 6; n += 1) {
    const span = WORLD.width + 120;
    const x = ((((n * 97 - drift * (1.6 + (n % 3) * 0.4)) % span) + span) % span) - 60;
    const y = 120 + n * 71;
    context.beginPath();
    context.moveTo(x, y);
    context.quadraticCurveTo(x + 18, y - 5, x + 40, y);
    context.stroke();
  }
  context.globalAlpha = 1;
}

function cloud(context, x, y, size) {
  context.beginPath();
  context.arc(x, y, size, 0, Math.PI * 2);
  context.arc(x + size, y + size * 0.2, size * 0.8, 0, Math.PI * 2);
  context.arc(x - size, y + size * 0.25, size * 0.7, 0, Math.PI * 2);
  context.fill();
}

function drawDuct(context, duct) {
  const lip = 26;
  const { x, gapTop } = duct;
  const bottom = gapTop + duct.gap;
  for (const [top, height, lipTop] of [[0, gapTop, gapTop - lip], [bottom, WORLD.floor - bottom, bottom]]) {
    context.fillStyle = DEEP;
    context.fillRect(x + 5, top, WORLD.ductWidth - 10, height);
    context.fillStyle = MINT;
    context.fillRect(x + 11, top, 9, height);
    context.fillStyle = DEEP;
    context.beginPath();
    context.roundRect(x, lipTop, WORLD.ductWidth, lip, 5);
    context.fill();
    context.fillStyle = MINT;
    context.fillRect(x + 6, lipTop + 6, WORLD.ductWidth - 12, 4);
    context.fillRect(x + 6, lipTop + 15, WORLD.ductWidth - 12, 4);
  }
}

function ground(context, drift) {
  context.fillStyle = MINT;
  context.fillRect(0, WORLD.floor, WORLD.width, WORLD.height - WORLD.floor);
  context.fillStyle = DEEP;
  context.fillRect(0, WORLD.floor, WORLD.width, 5);
  context.globalAlpha = 0.3;
  const offset = (drift * 2.4) % 40;
  for (let x = -40; x < WORLD.width + 40; x += 40) {
    context.beginPath();
    context.moveTo(x - offset, WORLD.floor + 20);
    context.lineTo(x - offset + 22, WORLD.floor + 20);
    context.lineTo(x - offset + 10, WORLD.height);
    context.lineTo(x - offset - 12, WORLD.height);
    context.fill();
  }
  context.globalAlpha = 1;
}

function bird(context, round, still) {
  const hover = round.started || still ? 0 : Math.sin(performance.now() / 300) * 5;
  context.save();
  context.translate(WORLD.birdX, round.y + hover);
  context.rotate(round.alive ? Math.max(-0.45, Math.min(round.velocity / 12, 0.9)) : 1.2);
  const r = WORLD.birdRadius;
  context.fillStyle = SUN;
  context.strokeStyle = INK;
  context.lineWidth = 1.5;
  context.beginPath();
  context.ellipse(0, 0, r + 3, r, 0, 0, Math.PI * 2);
  context.fill();
  context.stroke();
  const up = round.velocity < -2;
  context.fillStyle = WHITE;
  context.beginPath();
  context.ellipse(-6, up ? 5 : 0, 9, 6, up ? -0.5 : 0.35, 0, Math.PI * 2);
  context.fill();
  context.stroke();
  context.beginPath();
  context.arc(8, -5, 5, 0, Math.PI * 2);
  context.fill();
  context.stroke();
  context.fillStyle = INK;
  context.beginPath();
  context.arc(10, -5, 2, 0, Math.PI * 2);
  context.fill();
  context.fillStyle = DEEP;
  context.beginPath();
  context.moveTo(13, 0);
  context.lineTo(25, 3);
  context.lineTo(13, 8);
  context.closePath();
  context.fill();
  context.restore();
}

function points(context, score) {
  context.font = `700 46px ${FONT}`;
  context.textAlign = "center";
  context.lineWidth = 6;
  context.strokeStyle = DEEP;
  context.fillStyle = WHITE;
  context.lineJoin = "round";
  context.strokeText(String(score), WORLD.width / 2, 70);
  context.fillText(String(score), WORLD.width / 2, 70);
}

function banner(context, message, best) {
  context.globalAlpha = 0.92;
  context.fillStyle = WHITE;
  context.beginPath();
  context.roundRect(70, 330, WORLD.width - 140, best === null ? 84 : 114, 14);
  context.fill();
  context.globalAlpha = 1;
  context.textAlign = "center";
  context.fillStyle = DEEP;
  context.font = `700 28px ${FONT}`;
  context.fillText(message.title, WORLD.width / 2, 366);
  context.font = `18px ${FONT}`;
  context.fillText(message.text, WORLD.width / 2, 394);
  if (best !== null) context.fillText(`Your best: ${best}`, WORLD.width / 2, 424);
}
