// Analyses one file: checks it, sends it and parses the prediction.

import { Problem, post } from "./api.js";
import { findVersion, rejectionsOf } from "./catalog.js";
import { reasonText } from "./domain.js";
import { START, unusableText } from "./file_type.js";
import { problemOf } from "./incoming.js";
import { checkCatalog, digest, parsePrediction } from "./prediction.js";
import { connect } from "./service.js";
import { discardUpload, upload } from "./upload.js";

/**
 * Return the `prediction` for a file, the catalog's `version` that describes it or null, and what was `sent`; throws a Problem.
 *
 * `model` has `name`, `version` (or null), `assurances`, `prevalence` and `repair`; `job` has a `signal` and a method
 * `progress(fraction)`.
 */
export async function analyseFile(file, model, job) {
  let object = "";
  try {
    await checkFile(file);
    const sha256 = await digest(file);
    const response = await send(file, model, job);
    ({ object } = response);
    const prediction = parsePrediction(response.text, { ...model, sha256 });
    const version = await findVersion(prediction, connect);
    if (version !== null) checkCatalog(prediction, version);
    return { prediction, version, sent: { ...model, object } };
  } catch (error) {
    if (object) discardUpload(object);
    if (error.domain) error.detail = reasonText(error.domain, rejectionsOf(model), model.repair);
    throw error;
  }
}

/** Reject files that cannot be an image before they are sent. */
async function checkFile(file) {
  const reject = (message) => { throw new Problem(message, { canRetry: false }); };
  if (problemOf(file)) throw problemOf(file);
  const start = await file.slice(0, START).arrayBuffer().catch(() => reject("This file cannot be opened. Drop files, not folders."));
  const message = unusableText(file.name, new Uint8Array(start));
  if (message !== null) reject(message);
}

/** Send a file; one that is too large for a request takes the way through storage. Return the `text` of the response, and the key of the upload (`object`), which belongs to this one result. */
async function send(file, model, job) {
  const path = `api/predictions/${model.version === null ? model.name : `${model.name}/${model.version}`}`;
  const attempt = (object) => post(path, file, { ...model, object, signal: job.signal, onProgress: (fraction) => job.progress(fraction) });
  try {
    return { text: await attempt(""), object: "" };
  } catch (error) {
    if (error.status !== 413) throw error;
    const object = await upload(file, error, job);
    try {
      return { text: await attempt(object), object };
    } catch (failure) {
      discardUpload(object);
      throw failure;
    }
  }
}
