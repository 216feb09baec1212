// Rows of the table of many files: what they say, and how they are sorted and filtered. Pure.

import { repairedName } from "./domain.js";
import { percent } from "./format.js";
import { positiveLabel } from "./prediction.js";
import { verdict } from "./verdict.js";

/** Kinds of rows in the order of their importance, with their names. */
export const KINDS = new Map([
  ["positive", "Positive"], ["uncertain", "Uncertain"], ["doubtful", "Unlike training images"], ["negative", "Negative"],
  ["ranked", "Labelled"], ["failed", "Not analysed"], ["pending", "In progress"],
]);
const RANKS = new Map([...KINDS.keys()].map((kind, index) => [kind, index]));

/** What the table says about the state of a row. */
export const STATES = {
  waiting: "Waiting", running: "Analysing", done: "Analysed", rejected: "Rejected", failed: "Failed", cancelled: "Cancelled",
};
const FAILED = new Set(["rejected", "failed", "cancelled"]);

const byName = new Intl.Collator("en", { numeric: true, sensitivity: "base" }).compare;
let last = 0;

/** Return a row for a file at a `path` that is read with a model. */
export const newRow = (file, path, model) => ({
  id: last += 1, file, path, name: repairedName(file.name, model.repair), model, state: "waiting", attempts: 0,
  prediction: null, version: null, sent: null, problem: null, ...PENDING,
});

const PENDING = { kind: "pending", text: "", probability: null, threshold: null, area: null };

/** Change the state of a row that has no result; `problem` says why. */
export function setState(row, state, problem = null) {
  const text = state === "cancelled" ? "Not analysed: cancelled" : [problem?.message, problem?.detail].filter(Boolean).join(" ");
  Object.assign(row, PENDING, { state, problem, text, kind: FAILED.has(state) ? "failed" : "pending" });
}

/** Give a row its result. Only a certain one about an image like the training images names a label. */
export function setResult(row, { prediction, version, sent }) {
  const { kind, text } = verdict(prediction, version);
  const positive = positiveLabel(prediction);
  const hasClaim = kind !== "doubtful" && !("mask" in prediction);
  const probability = positive ? prediction.probabilities[positive] : kind === "ranked" ? prediction.probability : null;
  Object.assign(row, PENDING, {
    state: "done", problem: null, prediction, version, sent, kind, text,
    probability: hasClaim ? probability : null,
    threshold: hasClaim ? prediction.threshold : null,
    area: kind === "positive" && prediction.area ? prediction.area.fraction : null,
  });
}

/** Return the folder or zip file of a row, empty if its file was dropped alone. */
export const folderOf = ({ path }) => path.split("/").slice(0, -1).join("/");

/** Return a probability, or the marked share of the image. */
export const measureText = ({ probability, area }) => (probability !== null ? percent(probability) : area !== null ? `${percent(area)} of image` : "–");

/** Whether nothing is to be done about a row. */
export const isSettled = ({ state }) => state !== "waiting" && state !== "running";

/** Whether a row can be analysed again. */
export const canRepeat = ({ state }) => state === "failed" || state === "cancelled";

const KEYS = {
  file: { value: ({ path, name }) => `${path} ${name}`, compare: byName },
  result: { value: ({ kind, text }) => [RANKS.get(kind), text], compare: (one, other) => one[0] - other[0] || byName(one[1], other[1]) },
  probability: { value: ({ probability, area }) => probability ?? area, compare: (one, other) => one - other },
  threshold: { value: ({ threshold }) => threshold, compare: (one, other) => one - other },
  status: { value: ({ state }) => STATES[state], compare: byName },
};

/** Return rows sorted by a column; those without a value come last. Equal ones keep the order in which they were dropped. */
export function sortRows(rows, column, isDescending) {
  if (column === null) return rows;
  const { value, compare } = KEYS[column];
  const keyed = rows.map((row) => ({ row, key: value(row) }));
  const known = keyed.filter(({ key }) => key !== null);
  known.sort((one, other) => (isDescending ? -1 : 1) * compare(one.key, other.key) || one.row.id - other.row.id);
  return [...known, ...keyed.filter(({ key }) => key === null)].map(({ row }) => row);
}

/** Return the rows of a kind (null for all) whose path or result contains a text. */
export function filterRows(rows, kind, text) {
  const wanted = text.trim().toLowerCase();
  return rows.filter((row) => (kind === null || row.kind === kind)
    && (wanted === "" || `${row.path} ${row.name} ${row.text}`.toLowerCase().includes(wanted)));
}

/** Return the number of rows of each kind that occurs. */
export function countKinds(rows) {
  const counts = new Map([...KINDS.keys()].map((kind) => [kind, 0]));
  for (const { kind } of rows) counts.set(kind, counts.get(kind) + 1);
  return counts;
}
