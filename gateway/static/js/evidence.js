// What stands behind a result: intended use, accuracy at the cut-off, and predictive values at another prevalence.

import { intendedUse } from "./display.js";
import { make, terms } from "./dom.js";
import { counted, percent, scores, share } from "./format.js";
import { isMissing, positiveLabel } from "./prediction.js";
import { predictiveValues, shiftProbability } from "./predictive_values.js";

// A predictive value of 100% says only that the held-out images were too few to show an error.
const NO_ERROR = "No such result was wrong on the held-out images, which does not mean that none is";
let controls = 0;

/** Show for whom and what the model is, and for whom not. */
export const audience = (version) => section("What this model is for", terms(intendedUse(version)));

/** Show how often the model is right at its cut-off, with intervals, and on which images; null without figures. */
export function accuracy(prediction, version) {
  const figures = version?.figures ?? {};
  const { sensitivity, specificity } = figures;
  const name = positiveLabel(prediction);
  const rows = name !== null && sensitivity && specificity
    ? [["Sensitivity", figure(sensitivity, `${perHundred(sensitivity.value)} of 100 images with ${name} are reported`)],
      ["Specificity", figure(specificity, `${perHundred(specificity.value)} of 100 images without it are not reported`)]]
    : scores(figures);
  if (rows.length === 0) return null;
  const { profile } = prediction; // not the catalog's, which may be newer or older
  const atSite = profile ? "As shipped, not at the cut-off of the site profile. " : "";
  return section(name !== null && !profile ? "How often it is right at this cut-off" : "How often it is right",
    terms(rows), make("p", { class: "small" }, `${atSite}Measured on ${imagesText(version.held_out)} from the same source as the training images (95% CI). Expect lower accuracy on yours.`));
}

function figure({ value, ci95: [low, high] }, meaning) {
  return make("span", {}, make("strong", {}, percent(value)), ` (${percent(low)} to ${percent(high)})`, make("span", { class: "meaning" }, meaning));
}

/** Return the images of the figures: "784 held-out images (202 normal, 582 pneumonia)". */
export function imagesText(images) {
  if (!images) return "held-out images";
  const labels = Object.entries(images.labels);
  const counts = labels.length <= 3 ? ` (${labels.map(([label, count]) => `${count} ${label}`).join(", ")})` : "";
  return `${counted(images.images, "held-out image")}${counts}`;
}

/** Return a share as a count of 100, never rounded to none or all: "96", "less than 1", "more than 99". */
export function perHundred(value) {
  if (value > 0 && value < 0.005) return "less than 1";
  if (value < 1 && value >= 0.995) return "more than 99";
  return String(Math.round(100 * value));
}

/** Say how many images with the finding were missed, with the interval; null without a figure for this cut-off. */
export function missedText({ profile }, version) {
  const { sensitivity } = version?.figures ?? {};
  if (!sensitivity || profile) return null;
  const { value, ci95: [low, high] } = sensitivity;
  if (value < 1) return `of the held-out images that show it, ${perHundred(1 - value)} of 100 were missed (95% CI ${percent(1 - high)} to ${percent(1 - low)})`;
  return low < 1 ? `by the held-out images, up to ${percent(1 - low)} of those that show it may be missed (95% CI)` : null;
}

/** Say which prevalence the probability assumes, and show what the result means at another one; null if it is unknown. */
export function prevalenceControl(prediction, version) {
  const { prevalence } = prediction;
  const positive = positiveLabel(prediction);
  if (isMissing(prevalence) || positive === null) return null;
  const { sensitivity, specificity } = version?.figures ?? {};
  const values = sensitivity && specificity && !prediction.profile
    ? (at) => predictiveValues(sensitivity.value, specificity.value, at) : null;
  const id = `prevalence-${controls += 1}`;
  const input = make("input", { id, type: "number", min: 0.0001, max: 99.9999, step: "any", inputmode: "decimal", value: Number((100 * prevalence).toFixed(4)) });
  const output = make("output", { for: id, class: "predictive" });
  const update = () => output.replaceChildren(...(input.validity.valid && input.value !== ""
    ? meaning(prediction, positive, input.valueAsNumber / 100, values)
    : [make("p", {}, "Enter a number from 0.0001 to 99.9999.")]));
  input.addEventListener("input", update);
  update();
  return section("How common is the finding where you work?",
    make("p", {}, `The probability assumes that ${share(prevalence)} of the images are positive. It is higher where the finding is more common.`),
    make("div", { class: "field" }, make("label", { for: id }, `Images that show ${positive} (%)`), input), output);
}

/** Return what the result, and results of this model in general, mean at a prevalence. */
function meaning({ prevalence, probabilities }, positive, at, values) {
  const rows = [["This image", `${percent(shiftProbability(probabilities[positive], prevalence, at))} probability of ${positive}`]];
  if (values) {
    const { positive: right, negative } = values(at);
    if (right !== null) rows.push(["If reported", right === 1 ? NO_ERROR : `${perHundred(right)} of 100 reported images show ${positive} (predictive value ${percent(right)})`]);
    if (negative !== null) rows.push(["If not reported", negative === 1 ? NO_ERROR : `${perHundred(negative)} of 100 do not (predictive value ${percent(negative)})`]);
  }
  return [terms(rows)];
}

/** Return a section of a result with a heading. */
export function section(heading, ...children) {
  return make("section", { class: "evidence" }, make("h4", {}, heading), children);
}
