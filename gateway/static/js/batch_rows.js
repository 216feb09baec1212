// Rows of the table of many files: what they say, and how they are sorted and filtered. Pure.

import { repairedName } from "./domain.js";
import { percent } from "./format.js";
import { claimOf, verdict } from "./verdict.js";

/** Kinds of rows in the order of their importance, with their names. */
export const KINDS = new Map([
  ["positive", "Positive"], ["uncertain", "Uncertain"], ["doubtful", "Unusual"], ["negative", "Negative"],
  ["ranked", "Labelled"], ["failed", "Not analysed"], ["pending", "In progress"],
]);
const RANKS = new Map([...KINDS.keys()].map((kind, index) => [kind, index]));

const STATES = {
  waiting: "Waiting", running: "Analysing", done: "Analysed", rejected: "Rejected", failed: "Failed", cancelled: "Cancelled",
};
const DONE = { doubtful: "Unusual", uncertain: "Uncertain" };
const FAILED = new Set(["rejected", "failed", "cancelled"]);

const byName = new Intl.Collator("en", { numeric: true, sensitivity: "base" }).compare;
let last = 0;

/** Return a row for a file at a `path` that is read with a model. */
export const newRow = (file, path, model) => ({
  id: last += 1, file, path, name: repairedName(file.name, model.repair), model, state: "waiting", attempts: 0,
  prediction: null, version: null, sent: null, problem: null, ...PENDING,
});

const UNSUPPORTED = 415; // the details say the same
const PENDING = { kind: "pending", text: "", probability: null, threshold: null, area: null };

/** Change the state of a row that has no result; `problem` says why. */
export function setState(row, state, problem = null) {
  const text = state === "cancelled" ? "Not analysed: cancelled" : [problem?.message, problem?.status === UNSUPPORTED ? "" : problem?.detail].filter(Boolean).join(" ");
  Object.assign(row, PENDING, { state, problem, text, kind: FAILED.has(state) ? "failed" : "pending" });
}

/** Give a row its result. Only a certain one about an image like the training images has values. */
export function setResult(row, { prediction, version, sent }) {
  const { kind, text } = verdict(prediction, version);
  const { probability, positiveProbability, threshold, area } = claimOf(prediction);
  Object.assign(row, PENDING, {
    state: "done", problem: null, prediction, version, sent, kind, text,
    probability: positiveProbability ?? (kind === "ranked" ? probability ?? null : null),
    threshold: area ? null : threshold ?? null,
    area: kind === "positive" && area ? area.fraction : null,
  });
}

/** Return what the table says about the status of a row: results that are no finding have their own. */
export const statusOf = ({ state, kind }) => (state === "done" && DONE[kind]) || STATES[state];

/** Return the model that reads a row, with the version that did. */
export const readerOf = ({ prediction, model }) => prediction?.model ?? model;

/** Whether several models or versions read the rows. */
export function isMixed(rows) {
  const distinct = (values) => new Set(values.filter(Boolean)).size;
  return distinct(rows.map((row) => readerOf(row).name)) > 1 || distinct(rows.map(({ prediction }) => prediction?.model.version)) > 1;
}

/** Return the folder or zip file of a row, empty if its file was dropped alone. */
export const folderOf = ({ path }) => path.split("/").slice(0, -1).join("/");

/** Return a probability, or the marked share of the image. */
export const measureText = ({ probability, area }) => (probability !== null ? percent(probability) : area !== null ? `${percent(area)} of image` : "–");

/** Whether nothing is to be done about a row. */
export const isSettled = ({ state }) => state !== "waiting" && state !== "running";

/** Whether a row can be analysed again. */
export const canRepeat = ({ state }) => state === "failed" || state === "cancelled";

const measureOf = ({ probability, area }) => probability ?? area;
const KEYS = {
  file: { value: ({ path, name }) => `${path} ${name}`, compare: byName },
  result: { value: ({ kind, text }) => [RANKS.get(kind), text], compare: (one, other) => one[0] - other[0] || byName(one[1], other[1]) },
  probability: { // of one model after those of another one, as they measure different things
    value: (row) => (measureOf(row) === null ? null : [readerOf(row).name, measureOf(row)]), compare: (one, other) => byName(one[0], other[0]) || one[1] - other[1],
  },
  threshold: { value: ({ threshold }) => threshold, compare: (one, other) => one - other },
  status: { value: statusOf, compare: byName },
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
