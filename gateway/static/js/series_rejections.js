// Slices without a result or in doubt: how many a series may have, which are counted, and which have the same reason. Pure.

import { doubtText, isDoubtful } from "./domain.js";
import { counted, isUncertain } from "./format.js";

const MAX_STRETCHES = 8; // that a text names

/** Whether so many of the slices of a series have no result that nothing is said about the series: half or more. */
export const isMostlyMissing = (missing, count) => 2 * missing >= count;

/** Return the number of outcomes without a result. */
export const countMissing = (outcomes) => outcomes.filter(({ problem }) => problem).length;

/** Whether the results of the others say anything about a series. */
export const hasOverallResult = (outcomes) => !isMostlyMissing(countMissing(outcomes), outcomes.length);

/** Return what has become of outcomes without a result: "could not be analysed", or "deleted". */
export const missingText = (outcomes) => outcomes.find(({ problem }) => problem)?.absence ?? "could not be analysed";

const isDoubtfulFinding = ({ domain }) => isDoubtful({ status: domain });

/** Return why findings are in doubt: "unusual or uncertain". */
export function doubtOf(findings) {
  const areAllDoubtful = findings.every(isDoubtfulFinding);
  return [doubtText(findings.map(({ domain }) => domain)), areAllDoubtful ? "" : "uncertain"].filter(Boolean).join(" or ");
}

/**
 * Count findings, each with the statuses `domain` and `certainty`, and `positive`; `thing` is what one is called.
 *
 * Those in doubt are not counted: `total` and `positive` are numbers of the others; `doubtful` and `uncertain` are those
 * in doubt, `inDoubt` those of both that are positive. `reason` says why the series has no result; null if it has one.
 */
export function tally(findings, thing, isMask) {
  const doubtful = findings.filter(isDoubtfulFinding);
  const uncertain = findings.filter((finding) => !isDoubtfulFinding(finding) && isUncertain({ certainty: { status: finding.certainty } }));
  const unsure = [...doubtful, ...uncertain];
  const inDoubt = unsure.filter(({ positive }) => positive);
  const sure = findings.filter((finding) => !unsure.includes(finding));
  const positive = sure.filter((finding) => finding.positive).length;
  let reason = null;
  if (sure.length === 0) reason = `all ${thing}s are ${doubtOf(unsure)}`;
  else if (positive === 0 && inDoubt.length > 0) reason = `${counted(inDoubt.length, thing)} ${isMask ? "marked" : "above the cut-off"}, but ${doubtOf(inDoubt)}`;
  return { total: sure.length, positive, doubtful, uncertain, inDoubt, reason };
}

/** Return the indices of items that have the same key, the longest list first; those without a key are omitted. */
export function alike(items, key) {
  const keyed = items.map((item, index) => ({ index, key: key(item, index) })).filter((item) => item.key !== null);
  return [...Map.groupBy(keyed, (item) => item.key).values()].map((group) => group.map(({ index }) => index)).sort((one, other) => other.length - one.length);
}

/** Return why slices at indices, whose problems have the same message, have no result; with the details if they are the same, too. */
export function reasonText(outcomes, indices) {
  const [{ message, detail }, ...others] = indices.map((index) => outcomes[index].problem);
  return detail && others.every((problem) => problem.detail === detail) ? `${message} ${detail}` : message;
}

/** Return stretches of consecutive indices: their first and last ones. */
export function stretches(indices) {
  return indices.reduce((found, index) => {
    const last = found.at(-1);
    if (last?.[1] === index - 1) last[1] = index;
    else found.push([index, index]);
    return found;
  }, []);
}

/** Name indices by the numbers of their slices: "slices 1–20, 25". */
export function placesText(indices, thing = "slice") {
  const parts = stretches(indices).map(([first, last]) => (first === last ? `${first + 1}` : `${first + 1}–${last + 1}`));
  const rest = parts.length > MAX_STRETCHES ? " and others" : "";
  return `${thing}${indices.length === 1 ? "" : "s"} ${parts.slice(0, MAX_STRETCHES).join(", ")}${rest}`;
}
