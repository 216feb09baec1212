// What the card of a series says about slices without a finding: those without a result, and those in doubt.

import { button, make } from "./dom.js";
import { capitalize, counted, uncapitalize } from "./format.js";
import { isUnfit } from "./rejections.js";
import { alike, countMissing, placesText, reasonText } from "./series_rejections.js";
import { hasClaim } from "./series_summary.js";

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
