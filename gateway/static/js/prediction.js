// Parses predictions. A document that contradicts itself, or is about another image or model, is never shown.

import { invalidResponse, Problem, toHex } from "./api.js";

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const isText = (value) => typeof value === "string" && value !== "";
const isFraction = (value) => typeof value === "number" && value >= 0 && value <= 1;
const isCount = (value) => Number.isInteger(value) && value >= 0;
const isLength = (value) => Number.isInteger(value) && value > 0;
const isSha256 = (value) => isText(value) && /^[0-9a-f]{64}$/.test(value);
const isAmount = (value) => typeof value === "number" && value >= 0;
export const isMissing = (value) => value === undefined || value === null;
const isBox = (value) => isCount(value?.left) && isCount(value?.top) && isLength(value?.width) && isLength(value?.height);
const isSpacing = (value) => Array.isArray(value) && value.length === 2 && value.every((length) => isAmount(length) && length > 0);
const isDomain = ({ mode, status, percentile }) => (mode === "off" ? isMissing(status)
  : ["strict", "warn"].includes(mode) && ["normal", "unusual", "unlike"].includes(status) && isFraction(percentile / 100));
const TOLERANCE = 1e-6;
const SUM_TOLERANCE = 0.01; // probabilities may be rounded to two digits

/** Return the SHA-256 of a file in hexadecimal; null if the browser cannot compute it (http from another machine). */
export async function digest(file) {
  if (!globalThis.crypto?.subtle) return null;
  return toHex(new Uint8Array(await crypto.subtle.digest("SHA-256", await file.arrayBuffer())));
}

function require(condition, reason) {
  if (!condition) throw invalidResponse(reason);
}

/**
 * Parse the prediction for one image; throws a Problem if it is invalid.
 *
 * `expected` holds `name`, `version` (or null), `sha256` (or null), `prevalence` and `repair` of the request.
 */
export function parsePrediction(text, expected) {
  let prediction;
  try {
    prediction = JSON.parse(text);
  } catch {
    throw invalidResponse("it is not JSON");
  }
  return checkPrediction(prediction, expected);
}

/** Return the prediction for one image among several after the checks of `parsePrediction`. */
export function checkPrediction(prediction, expected) {
  checkDocument(prediction);
  const { model, image } = prediction;
  require(model.name === expected.name, "it is from another model");
  require(expected.version === null || model.version === expected.version, "it is from another version of the model");
  require(expected.sha256 === null || image.sha256 === expected.sha256, "it is about another image");
  require(!expected.prevalence || prediction.prevalence === Number(expected.prevalence), "it assumes another share of positive images");
  require((prediction.repair ?? "") === (expected.repair ?? ""), "the image was not changed as requested");
  return prediction;
}

/** Check a prediction that was stored for an entry of the history; its mask may not be kept. Throws a Problem. */
export function checkStored(document, entry) {
  const { model: name, version, sha256, image_sha256: image, prevalence, repair } = entry;
  const mask = document.mask === null ? { mask: { ...document.image, encoding: "png", data: "not kept" } } : {};
  checkPrediction({ ...document, ...mask }, { name, version, sha256: image, prevalence, repair });
  require(document.model.sha256 === (sha256 ?? null), "it is from another archive");
  require(document.label === entry.label && document.positive === (entry.positive ?? null), "entry and prediction contradict each other");
}

/** Check a prediction document on its own, like radserve.schema; throws a Problem. */
export function checkDocument(document) {
  require(isObject(document), "it is not an object");
  const { predictions } = document;
  if (predictions?.length > 1) throw new Problem(`This file holds ${predictions.length} images: unpack it, or export it uncompressed.`, { canRetry: false });
  require(isMissing(predictions), "it is about several images");
  require(!("status" in document), "it is a problem, not a prediction");
  require(!("mask" in document && "probabilities" in document), "it has both a mask and probabilities");
  const { label, model, image, positive, threshold, warning } = document;
  require(isText(label), "the label is missing");
  require(isText(model?.name) && isText(model?.version), "the model is missing");
  require(model.sha256 === null || isSha256(model.sha256), "the checksum of the model is missing");
  require(isText(image?.format) && isLength(image?.width) && isLength(image?.height) && isSha256(image?.sha256), "the image is missing");
  require(isMissing(image.spacing) || isSpacing(image.spacing), "the pixel spacing is invalid");
  for (const names of [document.checked, document.unchecked, document.notes]) require(isMissing(names) || (Array.isArray(names) && names.every(isText)), "the scope is invalid");
  require(isMissing(document.assurances) || isObject(document.assurances), "the assurances are invalid");
  require(isMissing(document.domain) || (isObject(document.domain) && isDomain(document.domain)), "the comparison with the training images is invalid");
  require(isMissing(document.profile) || (isText(document.profile.name) && isSha256(document.profile.sha256)), "the site profile is invalid");
  require(isMissing(warning) || isText(warning), "the warning is invalid");
  require(positive === null ? threshold === null : typeof positive === "boolean" && isFraction(threshold), "the decision is invalid");
  if ("mask" in document) checkSegmentation(document);
  else checkClassification(document);
}

/** Compare a prediction with the catalog entry of its model version; throws a Problem if they contradict each other. */
export function checkCatalog(prediction, version) {
  require(version.labels.includes(prediction.label), "the model does not have this label");
  require(("mask" in prediction) === (version.task === "segmentation"), "it is for another task");
  const positive = version.positive === null ? null : prediction.label === version.positive;
  require(prediction.positive === positive, "label and decision contradict each other");
}

function checkClassification(document) {
  const { label, probability, probabilities, positive, threshold, prevalence, certainty } = document;
  require(isMissing(prevalence) || isFraction(prevalence), "the prevalence is invalid");
  require(isObject(probabilities), "the probabilities are missing");
  const values = Object.values(probabilities);
  require(values.every(isFraction), "the probabilities are invalid");
  require(Math.abs(values.reduce((sum, value) => sum + value, 0) - 1) <= SUM_TOLERANCE, "the probabilities do not add up to 100%");
  require(Object.hasOwn(probabilities, label) && isFraction(probability) && Math.abs(probabilities[label] - probability) <= TOLERANCE, "label and probability contradict each other");
  if (positive === null) {
    require(probability >= Math.max(...values) - TOLERANCE, "the label is not the most probable one");
  } else if (positive) {
    require(probability >= threshold - TOLERANCE, "decision and cut-off contradict each other");
  } else {
    const others = Object.keys(probabilities).filter((name) => name !== label).map((name) => probabilities[name]);
    require(Math.min(...others, 1) <= threshold + TOLERANCE || others.length === 0, "decision and cut-off contradict each other");
  }
  if (!isMissing(certainty)) checkCertainty(certainty, document);
}

function checkCertainty({ status, level, prediction_set: labels, second_label: second }, { label, probabilities }) {
  require(Array.isArray(labels) && new Set(labels).size === labels.length && labels.every((name) => Object.hasOwn(probabilities, name)) && isFraction(level), "the prediction set is invalid");
  const isCertain = labels.length === 1 && labels[0] === label;
  require(status === (isCertain ? "certain" : "uncertain"), "label and certainty contradict each other");
  require(isMissing(second) || (Object.hasOwn(probabilities, second) && (second === label || labels.length > 1)), "the label of the second pass contradicts the prediction set");
}

function checkSegmentation({ mask, area, positive, image, box }) {
  require(isCount(area?.pixels) && isFraction(area?.fraction), "the area is missing");
  require(isMissing(area.mm2) ? isMissing(image.spacing) : isAmount(area.mm2) && !isMissing(image.spacing), "area and pixel spacing contradict each other");
  require(box === null || isBox(box), "the box is invalid");
  require(area.pixels > 0 === positive && (box !== null) === positive, "decision and area contradict each other");
  require(area.pixels <= image.width * image.height, "the area exceeds the image");
  require(isPicture(mask, image), "the mask does not fit the image");
}

const isPicture = (picture, image) => picture?.encoding === "png" && isText(picture.data)
  && picture.width === image.width && picture.height === image.height;

/** Return the label of the second pass, a brightened copy without dark margins, if it contradicts the result; null if not. */
export function contradiction({ label, certainty }) {
  const second = certainty?.second_label ?? label;
  return second === label ? null : second;
}

/** Return the label whose probability is compared with the cut-off; null without a decision between two labels. */
export function positiveLabel({ label, probabilities, positive }) {
  if (typeof positive !== "boolean" || !probabilities || Object.keys(probabilities).length !== 2) return null;
  return positive ? label : Object.keys(probabilities).find((name) => name !== label);
}

/** Parse the explanation of a prediction; throws a Problem if it belongs to another one. */
export function parseExplanation(text, prediction) {
  const { name, version } = prediction.model;
  const document = parsePrediction(text, { name, version, sha256: prediction.image.sha256, prevalence: prediction.prevalence, repair: prediction.repair });
  const { explanation } = document;
  require(document.model.sha256 === prediction.model.sha256, "it is from another archive");
  require(document.label === prediction.label && explanation?.label === prediction.label, "it explains another label");
  require(isPicture(explanation, prediction.image), "the heat map does not fit the image");
  return explanation;
}
