// Reading an answer. Nothing becomes a label that contradicts itself, or that is about another image or model.

import { unusable } from "./api.js";

const SHARE = (value) => typeof value === "number" && value >= 0 && value <= 1;
const TEXT = (value) => typeof value === "string" && value !== "";
const SIZE = (value) => Number.isInteger(value) && value > 0;

/** SHA-256 of a file in hexadecimal; null where the browser has no way to (plain http of another host). */
export async function digest(file) {
  if (!globalThis.crypto?.subtle) return null;
  const found = new Uint8Array(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
  return Array.from(found, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function demand(condition, why) {
  if (!condition) throw unusable(why);
}

/**
 * Read the answer to one image.
 *
 * `asked` holds `name`, `version` (or null) and `sha256` (or null). Throws a Refusal if it is none.
 */
export function read(text, asked) {
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    throw unusable("it is no JSON");
  }
  demand(found !== null && typeof found === "object" && !Array.isArray(found), "it is no document");
  demand(!("predictions" in found), "the file is a collection of images; unpack it and send the images themselves");
  demand(TEXT(found.label), "it has no label");
  const { model, image } = found;
  demand(TEXT(model?.name) && TEXT(model?.version), "it does not say which model gave it");
  demand(model.name === asked.name, "another model gave it");
  demand(asked.version === null || model.version === asked.version, "another version of the model gave it");
  demand(SIZE(image?.width) && SIZE(image?.height) && TEXT(image?.sha256), "it does not say which image it is about");
  demand(asked.sha256 === null || image.sha256 === asked.sha256, "it is about another image than the one that was sent");
  if ("mask" in found) segmentation(found);
  else classification(found);
  return found;
}

/** Hold an answer against what the catalog says of its version; throws a Refusal if they contradict each other. */
export function judge(found, version) {
  demand(version.labels.includes(found.label), "the model has no such label");
  demand(("mask" in found) === (version.task === "segmentation"), "it is of another task than the model");
  const decided = version.positive === null ? null : found.label === version.positive;
  demand(found.positive === decided, "its label and its decision contradict each other");
}

function classification(found) {
  const { label, probability, probabilities, positive, threshold } = found;
  demand(probabilities !== null && typeof probabilities === "object", "it has no probabilities");
  const shares = Object.values(probabilities);
  demand(shares.length > 1 && shares.every(SHARE), "its probabilities are none");
  demand(Math.abs(shares.reduce((sum, share) => sum + share, 0) - 1) < 1e-3, "its probabilities do not add up to one");
  demand(Object.hasOwn(probabilities, label) && probabilities[label] === probability, "label and probability contradict each other");
  if (positive === null) {
    demand(threshold === null, "it has a threshold and no decision");
    demand(probability === Math.max(...shares), "its label is not the most probable one");
    return;
  }
  demand(typeof positive === "boolean" && SHARE(threshold) && shares.length === 2, "its decision is none");
  demand(probabilities[positiveLabel(found)] >= threshold === positive, "its decision and its threshold contradict each other");
}

function segmentation(found) {
  const { mask, area, positive, threshold, image, box } = found;
  demand(typeof positive === "boolean" && SHARE(threshold), "its decision is none");
  demand(Number.isInteger(area?.pixels) && SHARE(area?.fraction), "its area is none");
  demand(area.pixels > 0 === positive && (box !== null) === positive, "its decision and its area contradict each other");
  demand(area.pixels <= image.width * image.height, "its area is larger than the image");
  demand(raster(mask, image), "its mask does not fit the image");
}

const raster = (found, image) => found?.encoding === "png" && TEXT(found.data)
  && found.width === image.width && found.height === image.height;

/** The label whose probability is held against the threshold; null where there is none. */
export function positiveLabel({ label, probabilities, positive }) {
  if (typeof positive !== "boolean" || !probabilities) return null;
  return positive ? label : Object.keys(probabilities).find((name) => name !== label);
}

/** Read an explanation of an answer; throws a Refusal if it belongs to another one. */
export function readExplanation(text, answer) {
  const { name, version } = answer.model;
  const found = read(text, { name, version, sha256: answer.image.sha256 });
  const { explanation } = found;
  demand(found.model.sha256 === answer.model.sha256, "another archive explained it");
  demand(found.label === answer.label && explanation?.label === answer.label, "it explains another label");
  demand(raster(explanation, answer.image), "its map does not fit the image");
  return explanation;
}
