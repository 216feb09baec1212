// Probabilities as bars; a bar of a decision has the threshold marked on it.

import { positiveLabel } from "./answer.js";
import { make } from "./dom.js";
import { percent } from "./words.js";

const MOST = 5;

function bar(share, threshold, words) {
  const fill = make("div", { class: "fill" });
  fill.style.width = `${100 * share}%`;
  const track = make("div", { class: "track", role: "img", "aria-label": words }, fill);
  if (threshold !== null) {
    const mark = make("div", { class: "threshold" });
    mark.style.left = `${100 * threshold}%`;
    track.append(mark);
  }
  return track;
}

/** What the probability of the positive label is, and on which side of the threshold. */
export function decision(answer) {
  const label = positiveLabel(answer);
  const share = answer.probabilities[label];
  const side = answer.positive ? "at or above" : "below";
  const words = `Calibrated probability of ${label}: ${percent(share)}, ${side} the threshold of ${percent(answer.threshold)}.`;
  const scale = make("div", { class: "scale", "aria-hidden": "true" });
  const tick = make("span", {}, `threshold ${percent(answer.threshold)}`);
  // At the ends of the bar the words would leave it.
  const place = 100 * answer.threshold;
  tick.style.left = `${Math.min(80, Math.max(20, place))}%`;
  scale.append(make("span", { class: "end" }, "0 %"), tick, make("span", { class: "end last" }, "100 %"));
  return make("div", { class: "decision" },
    make("div", { class: "bar-head" }, make("span", {}, `Probability of ${label}`), make("strong", {}, percent(share))),
    bar(share, answer.threshold, words), scale,
    make("p", { class: "small" }, `Calibrated; ${side} the threshold.`));
}

/** The most probable labels of several. */
export function ranking(answer) {
  const sorted = Object.entries(answer.probabilities).sort(([, one], [, other]) => other - one);
  const rows = sorted.slice(0, MOST).map(([label, share]) => make("li", { class: label === answer.label ? "chosen" : null },
    make("div", { class: "bar-head" }, make("span", {}, label), make("strong", {}, percent(share))),
    bar(share, null, `${label}: ${percent(share)}`)));
  const rest = sorted.slice(MOST);
  const others = rest.length
    ? make("p", { class: "small" }, `${rest.length} other labels: ${percent(rest.reduce((sum, [, share]) => sum + share, 0))} together.`)
    : null;
  return make("div", {}, make("p", { class: "small" }, "Calibrated probabilities"), make("ol", { class: "ranking" }, rows), others);
}
