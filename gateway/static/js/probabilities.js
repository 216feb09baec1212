// Probabilities as bars.

import { make } from "./dom.js";
import { capitalize, compared, counted, isUncertain, percent, share } from "./format.js";
import { contradiction, isMissing, positiveLabel } from "./prediction.js";
import { shiftProbability } from "./predictive_values.js";
import { side } from "./verdict.js";

const MAX_ROWS = 5;

function bar(value, threshold, description, zone = null) {
  const fill = make("div", { class: "fill" });
  fill.style.width = `${100 * value}%`;
  const track = make("div", { class: "track", role: "img", "aria-label": description }, fill);
  if (zone !== null) {
    const grey = make("div", { class: "zone" });
    grey.style.left = `${100 * zone[0]}%`;
    grey.style.width = `${100 * (zone[1] - zone[0])}%`;
    track.append(grey);
  }
  if (threshold !== null) {
    const mark = make("div", { class: "threshold" });
    mark.style.left = `${100 * threshold}%`;
    track.append(mark);
  }
  return track;
}

/** Return the probabilities, from and to, at which a result is uncertain, at the prevalence of the prediction; null if none is. */
export function greyZone({ prevalence, certainty }, version) {
  if (isMissing(certainty) || isMissing(version?.uncertain)) return null;
  if (isMissing(prevalence) || isMissing(version.prevalence)) return version.uncertain;
  return version.uncertain.map((limit) => (limit > 0 && limit < 1 ? shiftProbability(limit, version.prevalence, prevalence) : limit));
}

/** Show the probability of the positive label, the cut-off, the grey zone, and on which side the result is. */
export function decision(prediction, version) {
  const { label, threshold } = prediction;
  const name = positiveLabel(prediction);
  const value = prediction.probabilities[name];
  const [text, limit] = compared(value, threshold);
  const zone = greyZone(prediction, version);
  const zoneText = zone ? `uncertain from ${percent(zone[0])} to ${percent(zone[1])}` : "";
  const tick = make("span", {}, `cut-off ${limit}`);
  tick.style.left = `${Math.min(80, Math.max(20, 100 * threshold))}%`; // keeps the text within the bar
  const where = capitalize(side(prediction));
  return make("div", { class: "decision" },
    make("div", { class: "bar-head" }, make("span", {}, `Probability of ${name}`), make("strong", {}, text)),
    bar(value, threshold, `Probability of ${name}: ${text}, cut-off ${limit}${zone ? `, ${zoneText}` : ""}`, zone),
    make("div", { class: "scale", "aria-hidden": "true" }, make("span", { class: "end" }, "0%"), tick, make("span", { class: "end last" }, "100%")),
    make("p", { class: "small" }, isUncertain(prediction) ? `${where} the ${limit} cut-off, but ${contradiction(prediction) ? "contradicted by a brightened copy" : "uncertain"}.` : `${where} the ${limit} cut-off, so reported as ${label}.`),
    zone ? make("p", { class: "small legend" }, make("span", { class: "swatch", "aria-hidden": "true" }), `Hatched: ${zoneText}.`) : null);
}

/** Say why a result is uncertain; null if it is not. */
export function uncertainty(prediction) {
  if (!isUncertain(prediction)) return null;
  const { prediction_set: labels } = prediction.certainty;
  const second = contradiction(prediction);
  const reason = second !== null ? `A brightened copy without its dark margins was labelled "${second}".`
    : labels.length > 1 ? "The image fits both labels, or its probability is too close to the cut-off."
    : labels.length === 1 ? `Of the labels, only ${labels[0]} fits the image, but the cut-off reports ${prediction.label}.` : "The image fits no label well.";
  return make("p", { class: "uncertainty" }, `The model cannot decide about this image. ${reason}`);
}

/** Say which prevalence a probability assumes: " at 10% prevalence"; an empty text if it is unknown. */
export const atPrevalence = ({ prevalence }) => (isMissing(prevalence) ? "" : ` at ${share(prevalence)} prevalence`);

/** Show the most probable labels. */
export function ranking(prediction) {
  const sorted = Object.entries(prediction.probabilities).sort(([, one], [, other]) => other - one);
  const rows = sorted.slice(0, MAX_ROWS).map(([label, value]) => make("li", { class: label === prediction.label ? "chosen" : null },
    make("div", { class: "bar-head" }, make("span", {}, capitalize(label)), make("strong", {}, percent(value))),
    bar(value, null, `${label}: ${percent(value)}`)));
  const rest = sorted.slice(MAX_ROWS);
  const sum = rest.reduce((total, [, value]) => total + value, 0);
  return make("div", {}, make("p", { class: "small" }, "Probabilities"), make("ol", { class: "ranking" }, rows),
    rest.length ? make("p", { class: "small" }, `${counted(rest.length, "other label")}: ${percent(sum)} in total.`) : null,
    isMissing(prediction.prevalence) ? null : make("p", { class: "small" }, `This assumes that ${share(prediction.prevalence)} of the images are positive.`));
}
