// Verdict: what a result says, in words. Only an image like the training images, and a decision that is certain, gets a claim.

import { findingName } from "./display.js";
import { isDoubtful, noResult } from "./domain.js";
import { capitalize, isUncertain } from "./format.js";
import { contradiction, positiveLabel } from "./prediction.js";

/** Return the `kind` of a result (doubtful, uncertain, positive, negative or ranked) and its `text`. */
export function verdict(prediction, version) {
  const { domain, label, positive } = prediction;
  if (isDoubtful(domain)) return { kind: "doubtful", text: noResult(domain.status) };
  if (isUncertain(prediction)) return { kind: "uncertain", text: contradiction(prediction) ? "Uncertain: contradicted by a brightened copy" : "Uncertain: no reliable label" };
  if (positive === null) return { kind: "ranked", text: capitalize(label) };
  const kind = positive ? "positive" : "negative";
  if ("mask" in prediction && version === null && !positive) return { kind, text: "Nothing marked" }; // the label names the background
  const finding = findingName(version, version?.positive ?? positiveLabel(prediction) ?? label);
  if ("mask" in prediction) return { kind, text: positive ? `${capitalize(finding)} marked` : `No ${finding} marked` };
  return { kind, text: positive ? `${capitalize(finding)}: ${side(prediction)} the cut-off` : `No ${finding} found: ${side(prediction)} the cut-off` };
}

/** Return where a prediction is: "below", "at" or "above" the cut-off. */
export function side(prediction) {
  const { positive, threshold, probabilities } = prediction;
  if (positive && probabilities[positiveLabel(prediction)] <= threshold) return "at";
  return positive ? "above" : "below";
}

/**
 * Return what of a prediction may be shown or exported as a finding: `label` and its `probability`, the label that the
 * cut-off is about (`positiveLabel`, null without one) and its probability (`positiveProbability`), `threshold` and `area`.
 * Empty if there is no prediction, or if it is doubtful or uncertain.
 */
export function claimOf(prediction) {
  if (!prediction || isDoubtful(prediction.domain) || isUncertain(prediction)) return {};
  const { label, probability, probabilities, threshold, area } = prediction;
  const positive = positiveLabel(prediction);
  return { label, probability, threshold, area, positiveLabel: positive, positiveProbability: positive === null ? null : probabilities[positive] };
}

const SYMBOLS = { doubtful: "!", uncertain: "?", positive: "+", negative: "−", ranked: "" };

/** Return the sign that shows the kind of a result besides its colour. */
export const symbol = (kind) => SYMBOLS[kind];

/** Return what to do after a result; `missed` says how often a finding is missed, null if that is unknown. */
export function nextStep(kind, prediction, missed = null) {
  if (kind === "doubtful") return "Check that the image shows what you chose, and analyse the original file as the scanner exported it. Otherwise have it read without the model.";
  if (kind === "uncertain") return "Have the image read without the model.";
  if (kind === "ranked") return "Compare with what you see. The model names one of its labels even if the image shows something else.";
  if ("mask" in prediction && kind === "negative") return "Compare with the reading of a radiologist. An image without a mark does not exclude the finding.";
  if ("mask" in prediction) return "Compare the outline with the image, slice by slice. Do not measure with it, and do not plan a treatment on it.";
  if (kind === "positive") return "Compare with the reading of a radiologist. The result alone is not a diagnosis.";
  return `Compare with the reading of a radiologist. A result below the cut-off does not exclude the finding${missed === null ? "" : `: ${missed}`}.`;
}
