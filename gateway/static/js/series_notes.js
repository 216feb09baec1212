// What the card of a series says about its strip, and about slices without a finding: those without a result, and those in doubt.

import { button, make } from "./dom.js";
import { capitalize, counted, cutoff, uncapitalize } from "./format.js";
import { positiveLabel } from "./prediction.js";
import { isUnfit } from "./rejections.js";
import { alike, countMissing, placesText, reasonText } from "./series_rejections.js";
import { hasClaim } from "./series_summary.js";
import { isUnsure } from "./strip.js";

/** Return what follows a headline that says only how many slices have no result: why, what helps, and the `rest` of the slices. */
export function rejectionNotice(outcomes, rest, thing, change) {
  const [frequent] = alike(outcomes, ({ problem }) => problem?.message ?? null);
  const missing = countMissing(outcomes);
  const isKnown = outcomes.every(({ absence }) => !absence);
  return make("div", { class: "series-rejections" },
    isKnown ? make("p", {}, `${frequent.length === missing ? "Reason" : `Most frequent reason (${counted(frequent.length, thing)})`}: ${reasonText(outcomes, frequent)}`) : null,
    change && isUnfit(outcomes[frequent[0]].problem) ? button("Choose another kind of image", change) : null,
    make("p", { class: "small" }, `The others: ${uncapitalize(rest)} Nothing follows for the ${counted(missing, thing)} without a result.`));
}

/** Return a list of the slices without a finding, those with the same reason together; `go(indices)` shows the next of them. */
export function oddSlices(states, outcomes, thing, go) {
  const isRejected = ({ problem, absence }) => problem && !absence;
  const groups = alike(states, (state, index) => (hasClaim(state) ? null : `${state.text}\n${isRejected(outcomes[index]) ? outcomes[index].problem.message : ""}`));
  return groups.length === 0 ? null : make("ul", { class: "odd-slices" }, groups.map((indices) => make("li", {},
    button(`${capitalize(placesText(indices, thing))}: ${uncapitalize(states[indices[0]].text)}`, () => go(indices), { class: "link" }),
    isRejected(outcomes[indices[0]]) ? make("span", { class: "small" }, reasonText(outcomes, indices)) : null)));
}

/** Return what the strip of a `SeriesResult` shows; `top` is the largest value. */
export function legendText({ first, isMask, outcomes, stack, states, thing }, top) {
  const unit = typeof first.area?.mm2 === "number" ? "mm²" : "pixels";
  const area = `Bars: marked area of each slice${top ? `, up to ${top.toFixed(0)} ${unit}` : "; none is marked"}.`;
  const line = first.threshold === null ? "" : `; the line is the ${cutoff(first.threshold)} cut-off`;
  const missing = outcomes.flatMap(({ problem }, index) => (problem ? index : []));
  return [
    isMask ? area : `Bars: probability of ${positiveLabel(first) ?? "the label"} on each ${thing}${line}.`,
    states.some(({ kind }) => isUnsure(kind)) ? "Yellow: unusual, unlike the training images, or uncertain." : "",
    missing.length ? `Hatched: no result (${placesText(missing, thing)}).` : "",
    stack.gaps.length ? "Dashed: slices are missing." : "",
  ].filter(Boolean).join(" ");
}
