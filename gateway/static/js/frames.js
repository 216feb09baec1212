// Analyses a DICOM file with several frames: the file is sent once, and its frames are shown as one examination.

import { invalidResponse, itemProblem, post } from "./api.js";
import { findVersion, rejectionsOf } from "./catalog.js";
import { HEADER_BYTES, readHeader } from "./dicom_header.js";
import { reasonText } from "./domain.js";
import { checkCatalog, checkPrediction, digest } from "./prediction.js";
import { remember } from "./recent_files.js";
import { isOneRequest } from "./series_request.js";
import { SeriesResult } from "./series_view.js";
import { connect } from "./service.js";

/** Return how many frames a file declares; 1 if it declares none, or not where this page reads it. */
export async function countFrames(file) {
  const header = readHeader(await file.slice(0, HEADER_BYTES).arrayBuffer().catch(() => new ArrayBuffer(0)));
  return header?.frames ?? 1;
}

/** Return the card of a file with several frames; throws the Problem of the request, or of the first frame if none has a result. */
export async function analyseFrames(file, model, job) {
  const sha256 = await digest(file);
  const path = `api/predictions/${model.version === null ? model.name : `${model.name}/${model.version}`}`;
  const document = JSON.parse(await post(path, file, { ...model, object: "", signal: job.signal, onProgress: (fraction) => job.progress(fraction) }));
  if (!Array.isArray(document?.predictions)) throw invalidResponse("it does not have a result for each frame");
  const outcomes = document.predictions.map((item, index) => outcome(item, index + 1, { ...model, sha256 }));
  const predictions = outcomes.flatMap(({ prediction }) => prediction ?? []);
  if (predictions.length === 0) throw outcomes[0].problem;
  const version = await findVersion(predictions[0], connect);
  if (version !== null) for (const prediction of predictions) checkCatalog(prediction, version);
  remember(predictions[0].image.sha256, file);
  const analysed = { outcomes, volume: document.volume ?? null, isSaved: document.history !== "unavailable" };
  const { assurances, prevalence, repair } = model;
  return new FramesResult(file, analysed, version, { assurances, prevalence, repair });
}

function outcome(item, frame, expected) {
  if ((item?.image ?? item)?.frame !== frame) throw invalidResponse("its frames are not in order");
  if (!("status" in item) || "label" in item) return { prediction: checkPrediction(item, expected) };
  const problem = itemProblem(item);
  if (problem.domain) problem.detail = reasonText(problem.domain, rejectionsOf(expected));
  return { problem };
}

/** Card of the frames of a file, in the order of the file. */
class FramesResult extends SeriesResult {
  constructor(file, analysed, version, options) {
    const items = analysed.outcomes.map(() => ({ file, path: file.name, header: null }));
    const isMask = analysed.outcomes.some(({ prediction }) => prediction?.mask);
    super(file.name, {
      kind: "frames", thing: isMask ? "slice" : "image", order: "frames", items, places: null, distance: null, extent: items.map(() => null),
      gaps: [], duplicates: [], fault: null, isParallel: true, isIrregular: false,
    }, analysed, version, options);
  }

  get loadFiles() {
    const [{ file }] = this.stack.items;
    return isOneRequest([file.size]) ? async () => [file] : null;
  }
}
