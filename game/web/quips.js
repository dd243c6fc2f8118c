// What the status line says. Chosen by score and round, so that it varies without chance.

const ENDINGS = [
  [0, ["The first duct sends its regards.", "Technically, that was a landing.", "Gravity 1, bird 0."]],
  [1, ["One duct! Your mother is informed.", "A short flight, but first class.", "The bird would like a word with its pilot."]],
  [4, ["Getting the hang of hanging in the air.", "Facilities has noticed the feathers.", "Respectable. For a fledgling."]],
  [10, ["Double digits! The ducts are whispering.", "You and the draught are on first-name terms.", "That was almost aerodynamic."]],
  [20, ["The ventilation department is impressed.", "Pigeons are asking for autographs.", "Somebody has been practising."]],
  [40, ["The ducts have filed a complaint.", "Are you sure you are not a bird?", "Air traffic control would like to hire you."]],
  [100, ["Legends will be sung, mostly chirped.", "Please leave some sky for the others."]],
];

const MILESTONES = new Map([
  [5, "Five! The draught is with you."],
  [10, "Ten! Wind up, hopes up."],
  [25, "Twenty-five! Somebody call the ornithologist."],
  [50, "Fifty! The ducts are running out of excuses."],
  [100, "One hundred! This is now a migration."],
]);

export const ready = "Press space or tap to flap. The bird is as ready as it gets.";
export const paused = "Paused. The bird has learned to hover for you.";

// A line during the flight, or null when there is nothing new to say.
export const during = (score) => MILESTONES.get(score) ?? null;

export function ending(score, round) {
  const lines = ENDINGS.filter(([from]) => score >= from).at(-1)[1];
  return lines[round % lines.length];
}
