// Results near the cut-off: a slightly different image of the same patient may get the other result.

import { capitalize } from "./format.js";
import { isMissing, positiveLabel } from "./prediction.js";

const BAND = 0.2; // of the log-odds: from 45% to 55% at a cut-off of 50%, the same images at every prevalence

const logit = (value) => Math.log(value / (1 - value));
const logistic = (value) => 1 / (1 + Math.exp(-value));

/** Whether a probability is near a cut-off. */
export const isNear = (value, threshold) => Math.abs(logit(value) - logit(threshold)) <= BAND + 1e-9;

/** Return the probabilities, from and to, that are near a cut-off. */
export const nearRange = (threshold) => [logistic(logit(threshold) - BAND), logistic(logit(threshold) + BAND)];

/** Return where a prediction is: "below", "at" or "above" the cut-off, "just below" or "just above" it if it is near. */
export function side(prediction) {
  const { positive, threshold, probabilities } = prediction;
  return sideOf(probabilities[positiveLabel(prediction)], threshold, positive);
}

function sideOf(value, threshold, positive) {
  if (positive && value <= threshold) return "at";
  return `${isNear(value, threshold) ? "just " : ""}${positive ? "above" : "below"}`;
}

/**
 * Return where an entry of the history near the cut-off is, such as "Just below the cut-off"; null otherwise, or if the cut-off is unknown.
 *
 * Entries have only the name of a site profile, whose cut-off may have changed since.
 */
export function nearText({ positive, probability, prevalence, profile }, version) {
  const isKnown = version && !isMissing(version.threshold) && version.labels.length === 2 && !profile && !version.profile && (prevalence ?? null) === (version.prevalence ?? null);
  if (!isKnown || typeof positive !== "boolean" || isMissing(probability)) return null;
  const value = positive ? probability : 1 - probability;
  return isNear(value, version.threshold) ? `${capitalize(sideOf(value, version.threshold, positive))} the cut-off` : null;
}
