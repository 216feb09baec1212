// What the results of the slices of one examination say together. Pure.

import { findingName } from "./display.js";
import { doubtText, isDoubtful } from "./domain.js";
import { capitalize, counted, cutoff } from "./format.js";
import { positiveLabel } from "./prediction.js";
import { foldersOf } from "./series.js";
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
  const missing = outcomes.filter(({ prediction }) => !prediction).length;
  const areas = outcomes.map(({ prediction }) => prediction?.area.mm2 ?? null);
  const unknown = areas.filter((area, index) => area === null && outcomes[index].prediction).length;
  if (missing && stack.kind !== "stored") return { reason: `${slices(missing)} of ${outcomes.length} ${missing === 1 ? "is" : "are"} missing, because ${missing === 1 ? "it" : "they"} could not be analysed` };
  if (unknown) return { reason: `the pixel spacing of ${unknown === outcomes.length ? "the slices" : slices(unknown)} is unknown` };
  if (isMarkedOnlyInDoubt(outcomes)) return { reason: `the marked slices are ${doubtText(doubtsOf(outcomes, isMarked))}` };
  if (stack.kind === "stored") return typeof declared?.ml === "number" ? { ml: declared.ml } : { reason: declared?.reason?.replace(/^No volume: |\.$/g, "") ?? "it was not kept" };
  if (!stack.isParallel) return { reason: "the slices are not parallel" };
  if (stack.duplicates.length) return { reason: "several slices have the same position" };
  if (stack.extent.includes(null)) return { reason: "the distance between the slices is unknown" };
  if (stack.fault) return { reason: stack.fault };
  const ml = areas.reduce((sum, area, index) => sum + area * stack.extent[index], 0) / 1000;
  if (!declared) return { ml };
  if (typeof declared.ml !== "number") return { reason: "the server could not measure it" };
  return Math.abs(declared.ml - ml) <= TOLERANCE * Math.max(ml, declared.ml) ? { ml: declared.ml } : { reason: "the server's volume contradicts the slices" };
}

const isMarked = ({ area }) => Boolean(area?.pixels);

/** Return the statuses of slices that are not like the training images, of those that `isCounted`. */
const doubtsOf = (outcomes, isCounted = () => true) => outcomes.flatMap(({ prediction }) => (prediction && isDoubtful(prediction.domain) && isCounted(prediction) ? prediction.domain.status : []));

const countDoubtful = (outcomes, isCounted) => doubtsOf(outcomes, isCounted).length;

const isMarkedOnlyInDoubt = (outcomes) => countDoubtful(outcomes, isMarked) > 0 && outcomes.every(({ prediction }) => !prediction || !isMarked(prediction) || isDoubtful(prediction.domain));

/** Return the volume and how it was measured, in a sentence or two. */
export function volumeText(stack, outcomes, declared) {
  if (stack.kind === "names") return "No volume in ml: these files state no slice distance.";
  const { ml, reason } = volumeOf(stack, outcomes, declared);
  if (reason) return `No volume: ${reason}.`;
  const bridged = stack.gaps.reduce((sum, { missing }) => sum + missing, 0);
  const distance = () => (stack.isIrregular ? "the slice distances, which vary" : `a slice distance of ${millimetres(stack.distance)}`);
  const source = stack.kind === "stored" ? "as measured when the slices were sent" : `from the areas and ${distance()}`;
  const doubts = doubtsOf(outcomes, isMarked);
  const deleted = outcomes.filter(({ absence }) => absence).length;
  return `Marked volume (not validated): ${millilitres(ml)}, ${source}.${doubts.length ? ` It includes ${slices(doubts.length)} ${doubtText(doubts)}.` : ""}${deleted ? ` It includes ${slices(deleted)} whose ${deleted === 1 ? "result is" : "results are"} deleted.` : ""}${bridged ? ` ${slices(bridged)} of the stack ${bridged === 1 ? "is" : "are"} missing; the volume bridges the gap.` : ""}`;
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
  const failed = outcomes.filter(({ problem }) => problem).length;
  const { absence } = outcomes.find(({ problem }) => problem) ?? {};
  const folders = foldersOf(items).size;
  return [
    ...notesOf(outcomes, thing),
    failed ? `${slices(failed, thing)} of ${items.length} ${absence ? `${failed === 1 ? "was" : "were"} ${absence}` : "could not be analysed"} and ${failed === 1 ? "keeps its" : "keep their"} place without a result.` : null,
    missing ? `${slices(missing)} ${missing === 1 ? "seems" : "seem"} to be missing: ${places}${gaps.length > 3 ? " and elsewhere" : ""}.` : null,
    duplicates.length ? `${slices(duplicates.length)} ${duplicates.length === 1 ? "has" : "have"} the same position as another one.` : null,
    folders > 1 ? `The ${thing ?? "slice"}s come from ${folders} folders.` : null,
    sizes.size > 1 ? `The ${thing ?? "slice"}s have different sizes: ${[...sizes].join(", ")} pixels.` : null,
    stack.isParallel ? null : "The slices are not parallel.",
    stack.isIrregular ? "The distances between the slices vary." : null,
    order === "sent" ? `The images are shown in the order in which they were sent.${thing === "image" ? " They may be of different patients." : " This server keeps neither their positions nor whether they are of one examination."}` : null,
    order === "position" || order === "sent" ? null : `The slices are ordered by ${ORDERS[order]}: the files state no common position.`,
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

/** Return what was found, counted by slices (or another `thing`); nothing is claimed about the examination as a whole. */
export function headline(outcomes, version, thing = "slice") {
  const states = outcomes.map((outcome) => sliceState(outcome, version));
  const first = outcomes.find(({ prediction }) => prediction)?.prediction;
  if (!first) return { kind: "doubtful", text: "No slice could be analysed" };
  const analysed = outcomes.filter(({ prediction }) => prediction).length;
  const isStored = outcomes.some(({ absence }) => absence);
  const known = isStored ? "stored" : "analysed";
  const doubtful = countDoubtful(outcomes);
  const inDoubt = countDoubtful(outcomes, isMarked);
  if (doubtful === analysed) return { kind: "doubtful", text: `No finding: all ${thing}s are ${doubtText(doubtsOf(outcomes))}` };
  if (isMarkedOnlyInDoubt(outcomes)) return { kind: "doubtful", text: `No finding: the ${inDoubt === 1 ? "marked slice is" : `${inDoubt} marked slices are`} ${doubtText(doubtsOf(outcomes, isMarked))}` };
  const marked = states.filter((state) => state.marked).length - inDoubt;
  const kind = !first.area ? "ranked" : marked ? "positive" : "negative";
  const finding = findingName(version, version?.positive ?? positiveLabel(first) ?? first.label);
  if (first.area && marked) return { kind, text: `${capitalize(finding)} marked on ${marked} of ${isStored ? slices(analysed, "stored slice") : slices(outcomes.length)}${inDoubt ? `, and on ${inDoubt} ${doubtText(doubtsOf(outcomes, isMarked))}` : ""}` };
  if (first.area) return { kind, text: `No ${finding} marked on ${analysed === outcomes.length ? "any" : `the ${analysed} ${known}`} of ${slices(outcomes.length)}${doubtful ? `, ${doubtful} of them ${doubtText(doubtsOf(outcomes))}` : ""}` };
  if (first.positive === null) return { kind: "ranked", text: slices(outcomes.length, thing) };
  const counted = analysed === outcomes.length ? slices(analysed, thing) : slices(analysed, `${known} ${thing}`);
  return { kind, text: `${marked} of ${counted} above the ${cutoff(first.threshold)} cut-off` };
}

/** Return what limits the count, in sentences: slices that are uncertain or not like the training images. */
export function limits(outcomes, hasVolume, thing = "slice") {
  const predictions = outcomes.flatMap(({ prediction }) => prediction ?? []);
  const isMask = predictions.some(({ area }) => area);
  const doubtful = countDoubtful(outcomes);
  const uncertain = predictions.filter(({ certainty, domain }) => certainty?.status === "uncertain" && !isDoubtful(domain)).length;
  return [
    doubtful ? `${slices(doubtful, thing)} ${doubtful === 1 ? "is" : "are"} ${doubtText(doubtsOf(outcomes))}; the model may be wrong there. ${isMask ? `Not counted as marked; compare ${doubtful === 1 ? "it" : "them"} first.` : "Not counted as above the cut-off."}` : null,
    uncertain ? `${slices(uncertain, thing)} ${uncertain === 1 ? "is" : "are"} uncertain, and not counted.` : null,
    isMask || thing === "image" ? null : "Only single slices were validated: nothing follows from the count for the examination as a whole.",
    hasVolume ? "The volume was not validated: it adds up the marks of single slices." : null,
  ].filter(Boolean);
}

/** Return the index of the slice to show first: the one with the largest value, of those marked if there are any. */
export function firstShown(states) {
  const best = (candidates) => candidates.reduce((one, other) => (other.state.value > (one?.state.value ?? -1) ? other : one), null);
  const all = states.map((state, index) => ({ state, index })).filter(({ state }) => state.value !== null);
  return (best(all.filter(({ state }) => state.marked)) ?? (all.some(({ state }) => state.value > 0) ? best(all) : null))?.index ?? Math.floor(states.length / 2);
}
