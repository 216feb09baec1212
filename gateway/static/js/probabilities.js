// Probabilities as bars.

import { make } from "./dom.js";
import { isMissing, positiveLabel } from "./prediction.js";
import { capitalize, cutoff, isUncertain, percent, share } from "./format.js";

const MAX_ROWS = 5;

function bar(value, threshold, description) {
  const fill = make("div", { class: "fill" });
  fill.style.width = `${100 * value}%`;
  const track = make("div", { class: "track", role: "img", "aria-label": description }, fill);
  if (threshold !== null) {
    const mark = make("div", { class: "threshold" });
    mark.style.left = `${100 * threshold}%`;
    track.append(mark);
  }
  return track;
}

/** Show the probability of the positive label, the cut-off, and on which side the result is. */
export function decision(prediction) {
  const { label, positive, threshold } = prediction;
  const name = positiveLabel(prediction);
  const value = prediction.probabilities[name];
  const limit = cutoff(threshold);
  const tick = make("span", {}, `cut-off ${limit}`);
  tick.style.left = `${Math.min(80, Math.max(20, 100 * threshold))}%`; // keeps the text within the bar
  const side = positive ? (value > threshold ? "Above" : "At") : "Below";
  return make("div", { class: "decision" },
    make("div", { class: "bar-head" }, make("span", {}, `Probability of ${name}`), make("strong", {}, percent(value))),
    bar(value, threshold, `Probability of ${name}: ${percent(value)}, cut-off ${limit}`),
    make("div", { class: "scale", "aria-hidden": "true" }, make("span", { class: "end" }, "0%"), tick, make("span", { class: "end last" }, "100%")),
    make("p", { class: "small" }, isUncertain(prediction) ? `${side} the ${limit} cut-off, but too close to call.` : `${side} the ${limit} cut-off, so reported as ${label}.`),
    assumption(prediction));
}

/** Say why a result is uncertain; null if it is not. */
export function uncertainty(prediction) {
  if (!isUncertain(prediction)) return null;
  const { prediction_set: labels } = prediction.certainty;
  const reason = labels.length > 1 ? `The image fits ${labels.join(" and ")}.`
    : labels.length === 1 ? `Of the labels, only ${labels[0]} fits the image, but the cut-off reports ${prediction.label}.` : "The image fits no label well.";
  return make("p", { class: "uncertainty" }, `The model cannot decide about this image. ${reason} Have it read without the model.`);
}

/** Say which prevalence a probability assumes: " at 10% prevalence"; an empty text if it is unknown. */
export const atPrevalence = ({ prevalence }) => (isMissing(prevalence) ? "" : ` at ${share(prevalence)} prevalence`);

function assumption({ prevalence }) {
  if (isMissing(prevalence)) return null;
  return make("p", { class: "small" }, `The probability assumes that ${share(prevalence)} of the images are positive. It is higher where the finding is more common.`);
}

/** Show the most probable labels. */
export function ranking(prediction) {
  const sorted = Object.entries(prediction.probabilities).sort(([, one], [, other]) => other - one);
  const rows = sorted.slice(0, MAX_ROWS).map(([label, value]) => make("li", { class: label === prediction.label ? "chosen" : null },
    make("div", { class: "bar-head" }, make("span", {}, capitalize(label)), make("strong", {}, percent(value))),
    bar(value, null, `${label}: ${percent(value)}`)));
  const rest = sorted.slice(MAX_ROWS);
  const sum = rest.reduce((total, [, value]) => total + value, 0);
  return make("div", {}, make("p", { class: "small" }, "Probabilities"), make("ol", { class: "ranking" }, rows),
    rest.length ? make("p", { class: "small" }, `${rest.length} other labels: ${percent(sum)} in total.`) : null,
    assumption(prediction));
}
