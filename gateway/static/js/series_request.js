// Sends the slices of one examination together, because only then the server measures their volume and accepts outer
// slices that are unlike the training images. A long series takes several requests.

import { invalidResponse, itemProblem, post } from "./api.js";
import { rejectionsOf } from "./catalog.js";
import { reasonText } from "./domain.js";
import { checkPrediction, digest } from "./prediction.js";

/** Limits of one request: images, as the server's, and bytes, which base64 lengthens by a third. */
export const REQUEST = { images: 160, bytes: 24e6 };
const TOO_LARGE = 413;
const NO_TIME = 503;

/**
 * Split slices into as few requests as the limits allow, as lists of indices.
 *
 * Each request gets slices of the whole stack: among those of one end alone, too many would be unlike the training
 * images.
 */
export function shares(sizes, limits = REQUEST) {
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const count = Math.max(1, Math.ceil(sizes.length / limits.images), Math.ceil(total / limits.bytes));
  return split(sizes.map((_, index) => index), count);
}

/** Whether one request can send files of these sizes. */
export const isOneRequest = (sizes) => shares(sizes).length <= 1;

const split = (indices, count) => Array.from({ length: count }, (_, first) => indices.filter((_index, at) => at % count === first)).filter(({ length }) => length > 0);

/**
 * Analyse files with a model. Returns the `outcomes`, a `prediction` or a `problem` for each file, and the server's
 * `volume`, null if the files took several requests, and whether the history `isSaved`. Throws the Problem of a request
 * that failed as a whole.
 */
export async function analyseSlices(files, model, { signal, progress }, limits = REQUEST) {
  const outcomes = files.map(() => null);
  const waiting = shares(files.map(({ size }) => size), limits);
  let volume = null;
  let isSaved = true;
  while (waiting.length) {
    const indices = waiting.shift();
    const done = outcomes.filter((outcome) => outcome !== null).length;
    const onProgress = (fraction) => progress((done + fraction * indices.length) / files.length);
    let response;
    try {
      response = await send(indices.map((index) => files[index]), model, { signal, onProgress });
    } catch (error) {
      if (error.status !== TOO_LARGE) throw error;
      if (indices.length === 1) outcomes[indices[0]] = { problem: error };
      else waiting.unshift(...split(indices, 2));
      continue;
    }
    response.outcomes.forEach((outcome, at) => { outcomes[indices[at]] = outcome; });
    isSaved &&= response.isSaved;
    volume = indices.length === files.length ? response.volume : null;
    const late = indices.filter((index) => outcomes[index].problem?.status === NO_TIME);
    if (late.length > 0 && late.length < indices.length) {
      for (const index of late) outcomes[index] = null;
      waiting.push(late);
    }
  }
  requireOneModel(outcomes);
  return { outcomes, volume, isSaved };
}

async function send(files, model, { signal, onProgress }) {
  const digests = [];
  for (const file of files) digests.push(await digest(file));
  const instances = await instancesOf(files);
  const path = `api/predictions/${model.version === null ? model.name : `${model.name}/${model.version}`}`;
  const document = parse(await post(path, null, { ...model, object: "", instances, signal, onProgress }));
  if (!Array.isArray(document?.predictions) || document.predictions.length !== files.length) throw invalidResponse("it does not have one result for each slice");
  return {
    outcomes: document.predictions.map((item, index) => (item && "status" in item && !("label" in item)
      ? { problem: problemOf(item, model) } : { prediction: checkPrediction(item, { ...model, sha256: digests[index] }) })),
    volume: document.volume ?? null,
    isSaved: document.history !== "unavailable",
  };
}

function problemOf(item, model) {
  const problem = itemProblem(item);
  if (problem.domain) problem.detail = reasonText(problem.domain, rejectionsOf(model));
  return problem;
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw invalidResponse("it is not JSON");
  }
}

/** Slices of several versions, as during a rollout, have no common result. */
function requireOneModel(outcomes) {
  const models = new Set(outcomes.flatMap(({ prediction }) => (prediction ? [`${prediction.model.version} ${prediction.model.sha256}`] : [])));
  if (models.size > 1) throw invalidResponse("the slices were analysed by several versions of the model");
}

/** Return files as a request sends them; one by one, because a series may have hundreds of megabytes. */
export async function instancesOf(files) {
  const instances = [];
  for (const file of files) instances.push({ b64: await toBase64(file) });
  return instances;
}

/** Return the bytes of a file as a data URL, which the server accepts as base64. */
function toBase64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(file);
  });
}
