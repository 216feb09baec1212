// What the results of the slices of one examination say together. Pure.

import { findingName } from "./display.js";
import { capitalize, counted, cutoff } from "./format.js";
import { positiveLabel } from "./prediction.js";
import { foldersOf } from "./series.js";
import { countMissing, doubtOf, hasOverallResult, missingText, tally } from "./series_rejections.js";
import { verdict } from "./verdict.js";

const TOLERANCE = 0.005; // share by which the volume of the server may differ from the one computed here

const ORDERS = { instance: "instance number", name: "the numbers in their names", none: "file name" };

const slices = (count, thing = "slice") => counted(count, thing);

/** Format a volume in millilitres with two significant digits or more: "0.42 ml", "12.3 ml", "140 ml". */
export const millilitres = (ml) => `${ml >= 100 || ml === 0 ? ml.toFixed(0) : ml >= 10 ? ml.toFixed(1) : ml >= 0.095 ? ml.toFixed(2) : "less than 0.1"} ml`;

/** Format a length: "5 mm", "0.94 mm". */
export const millimetres = (length) => `${Number(length.toFixed(2))} mm`;

/**
 * Return the volume that the masks mark: `ml`, or the `reason` why it is unknown.
 *
 * It is the sum of each area times the slice's extent along the stack, as in handlers/volume.py. `outcomes` hold a
 * `prediction` or a `problem` for each slice of a stack; `declared` is the server's volume, null if the slices took
 * several requests. That of a stored stack includes the slices whose results were deleted.
 */
export function volumeOf(stack, outcomes, declared) {
  const missing = countMissing(outcomes);
  const areas = outcomes.map(({ prediction }) => prediction?.area.mm2 ?? null);
  const unknown = areas.filter((area, index) => area === null && outcomes[index].prediction).length;
  if (missing && (stack.kind !== "stored" || !hasOverallResult(outcomes))) return { reason: `${slices(missing)} of ${outcomes.length} ${missingText(outcomes)}` };
  if (unknown) return { reason: `the pixel spacing of ${unknown === outcomes.length ? "the slices" : slices(unknown)} is unknown` };
  const { reason } = tallyOf(outcomes);
  if (reason) return { reason };
  if (stack.kind === "stored" || stack.kind === "frames") return typeof declared?.ml === "number" ? { ml: declared.ml } : { reason: declared?.reason?.replace(/^No volume: |\.$/g, "") ?? "it was not kept" };
  if (!stack.isParallel) return { reason: "the slices are not parallel" };
  if (stack.duplicates.length) return { reason: "several slices have the same position" };
  if (stack.extent.includes(null)) return { reason: "the distance between the slices is unknown" };
  if (stack.fault) return { reason: stack.fault };
  const ml = areas.reduce((sum, area, index) => sum + area * stack.extent[index], 0) / 1000;
  if (!declared) return { ml };
  if (typeof declared.ml !== "number") return { reason: "the server could not measure it" };
  return Math.abs(declared.ml - ml) <= TOLERANCE * Math.max(ml, declared.ml) ? { ml: declared.ml } : { reason: "the server's volume contradicts the slices" };
}

const tallyOf = (outcomes, thing = "slice") => {
  const predictions = outcomes.flatMap(({ prediction }) => prediction ?? []);
  return tally(predictions.map(({ domain, certainty, positive }) => ({ domain: domain?.status, certainty: certainty?.status, positive })), thing, predictions.some(({ area }) => area));
};

/** Return the volume and how it was measured, in a sentence or two. */
export function volumeText(stack, outcomes, declared) {
  if (stack.kind === "names") return "No volume in ml: these files state no slice distance.";
  const { ml, reason } = volumeOf(stack, outcomes, declared);
  if (reason) return `No volume: ${reason}.`;
  const bridged = stack.gaps.reduce((sum, { missing }) => sum + missing, 0);
  const distance = () => (stack.isIrregular ? "the slice distances, which vary" : `a slice distance of ${millimetres(stack.distance)}`);
  const source = stack.kind === "stored" ? "as measured when the slices were sent" : stack.kind === "frames" ? "from the areas and the positions of the frames" : `from the areas and ${distance()}`;
  const { inDoubt } = tallyOf(outcomes);
  const deleted = outcomes.filter(({ absence }) => absence).length;
  return `Marked volume (not validated): ${millilitres(ml)}, ${source}.${inDoubt.length ? ` It includes ${slices(inDoubt.length)} ${doubtOf(inDoubt)}.` : ""}${deleted ? ` It includes ${slices(deleted)} whose ${deleted === 1 ? "result is" : "results are"} deleted.` : ""}${bridged ? ` ${slices(bridged)} of the stack ${bridged === 1 ? "is" : "are"} missing; the volume bridges the gap.` : ""}`;
}

/** Return the notes about single images once each, with the number of images. */
function notesOf(outcomes, thing) {
  const notes = outcomes.flatMap(({ prediction }) => prediction?.notes ?? []);
  return [...new Set(notes)].map((note) => `${note} (${slices(notes.filter((other) => other === note).length, thing)})`);
}

/** Return what limits the stack, in sentences. */
export function warnings(stack, outcomes) {
  const { gaps, duplicates, items, order, thing } = stack;
  const sizes = new Set(outcomes.filter(({ prediction }) => prediction).map(({ prediction: { image } }) => `${image.width} × ${image.height}`));
  const missing = gaps.reduce((sum, gap) => sum + gap.missing, 0);
  const places = gaps.slice(0, 3).map(({ after }) => `between slices ${after + 1} and ${after + 2}`).join(", ");
  const folders = foldersOf(items).size;
  return [
    ...notesOf(outcomes, thing),
    missing ? `${slices(missing)} ${missing === 1 ? "seems" : "seem"} to be missing: ${places}${gaps.length > 3 ? " and elsewhere" : ""}.` : null,
    duplicates.length ? `${slices(duplicates.length)} ${duplicates.length === 1 ? "has" : "have"} the same position as another one.` : null,
    folders > 1 ? `The ${thing ?? "slice"}s come from ${folders} folders.` : null,
    sizes.size > 1 ? `The ${thing ?? "slice"}s have different sizes: ${[...sizes].join(", ")} pixels.` : null,
    stack.isParallel ? null : "The slices are not parallel.",
    stack.isIrregular ? "The distances between the slices vary." : null,
    order === "sent" ? `The images are shown in the order in which they were sent.${thing === "image" ? " They may be of different patients." : " This server keeps neither their positions nor whether they are of one examination."}` : null,
    ["position", "sent", "frames"].includes(order) ? null : `The slices are ordered by ${ORDERS[order]}: the files state no common position.`,
  ].filter(Boolean);
}

/**
 * Return the state of one slice: its `kind` (of `verdict.js`, or rejected), whether it is `marked`, the `value` that the
 * strip shows (null if there is none), and a `text`.
 */
export function sliceState({ prediction, problem, absence }, version) {
  if (problem) return { kind: "rejected", marked: false, value: null, text: capitalize(absence ?? "could not be analysed") };
  const { kind, text } = verdict(prediction, version);
  const { area, probabilities, probability } = prediction;
  if (area) {
    return { kind, marked: area.pixels > 0, value: area.mm2 ?? area.pixels, text: kind === "positive" ? `${text}, ${areaText(area)}` : text };
  }
  const label = positiveLabel(prediction);
  return { kind, marked: kind === "positive", value: label ? probabilities[label] : probability, text };
}

/** Whether a slice with a state has a result that may be shown: neither doubtful nor uncertain. */
export const hasClaim = ({ kind }) => !["rejected", "doubtful", "uncertain"].includes(kind);

/** Format an area: "312 mm²", "1250 pixels". */
export const areaText = ({ pixels, mm2 }) => (typeof mm2 === "number" ? `${mm2.toFixed(0)} mm²` : counted(pixels, "pixel"));

/**
 * Return what was found: the `kind` of the verdict and its `text`, which counts slices (or another `thing`); nothing is
 * claimed about the examination as a whole. If half of them or more have no result, the text says only that, and `rest`
 * what the others show; else `rest` is null.
 */
export function headline(outcomes, version, thing = "slice") {
  const analysed = outcomes.filter(({ prediction }) => prediction);
  const missing = countMissing(outcomes);
  const known = outcomes.some(({ absence }) => absence) ? "stored " : missing ? "analysed " : "";
  const { kind, text } = claim(analysed, version, `${known}${thing}`);
  if (missing === 0) return { kind, text, rest: null };
  if (hasOverallResult(outcomes)) return { kind, text: `${text}; ${slices(missing, thing)} ${missingText(outcomes)}`, rest: null };
  return { kind: "doubtful", text: `${missing} of ${slices(outcomes.length, thing)} ${missingText(outcomes)}`, rest: `${text}.` };
}

/** Return the verdict on slices that all have a result; `thing` is what they are called. */
function claim(outcomes, version, thing) {
  const [{ prediction: first }] = outcomes;
  const { total, positive, doubtful, uncertain, inDoubt, reason } = tallyOf(outcomes, thing);
  if (reason) return { kind: doubtful.length ? "doubtful" : "uncertain", text: `No result: ${reason}` };
  const all = slices(total, thing);
  const unsure = [...doubtful, ...uncertain];
  const without = unsure.length ? `; ${unsure.length} ${doubtOf(unsure)}, not counted` : "";
  if (!first.area) return { kind: "ranked", text: `${first.positive === null ? all : `${positive} of ${all} above the ${cutoff(first.threshold)} cut-off`}${without}` };
  const finding = findingName(version, version?.positive ?? positiveLabel(first) ?? first.label);
  if (positive) return { kind: "positive", text: `${capitalize(finding)} marked on ${positive} of ${all}${inDoubt.length ? `, and on ${inDoubt.length} ${doubtOf(inDoubt)}` : without}` };
  return { kind: "negative", text: `No ${finding} marked on any of ${all}${without}` };
}

/** Return what limits the count, in sentences: slices that are uncertain or not like the training images. */
export function limits(outcomes, hasVolume, thing = "slice") {
  const isMask = outcomes.some(({ prediction }) => prediction?.area);
  const { doubtful, uncertain } = tallyOf(outcomes);
  const are = ({ length }) => `${slices(length, thing)} ${length === 1 ? "is" : "are"}`;
  return [
    doubtful.length ? `${are(doubtful)} ${doubtOf(doubtful)}; the model may be wrong there. Not counted${isMask ? `; compare ${doubtful.length === 1 ? "it" : "them"} first` : ""}.` : null,
    uncertain.length ? `${are(uncertain)} uncertain, and not counted.` : null,
    isMask || thing === "image" ? null : "Only single slices were validated: nothing follows from the count for the examination as a whole.",
    hasVolume ? "The volume was not validated: it adds up the marks of single slices." : null,
  ].filter(Boolean);
}

/**
 * Return the index of the slice to show first: the one with the largest value, marked ones before others, and not
 * in doubt if possible. If all values are 0, the one with a result that is nearest to the middle.
 */
export function firstShown(states) {
  const all = states.map((state, index) => ({ state, index })).filter(({ state }) => state.value !== null);
  const marked = all.filter(({ state }) => state.marked);
  const claimed = marked.filter(({ state }) => hasClaim(state));
  const middle = Math.floor(states.length / 2);
  const rank = (one, other) => one.state.value - other.state.value || (one.state.value ? 0 : Math.abs(other.index - middle) - Math.abs(one.index - middle));
  return [claimed, marked, all].find(({ length }) => length > 0).reduce((one, other) => (rank(one, other) < 0 ? other : one)).index;
}
