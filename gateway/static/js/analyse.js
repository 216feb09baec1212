// Analyses files that are dropped, chosen, photographed or pasted. Each file gets its own result or problem.

import { MISSING_ATTRIBUTE, Problem, post } from "./api.js";
import { takeAssurances } from "./assurances.js";
import { allModels, findVersion } from "./catalog.js";
import { chosenModel, expectedModel, isServed, titleOf } from "./choice.js";
import { isChoosing } from "./chooser.js";
import { repairedName, suggestedRepair } from "./domain.js";
import { announce, byId } from "./dom.js";
import { START, unusableText } from "./file_type.js";
import { problemOf, readIncoming } from "./incoming.js";
import { checkCatalog, digest, parsePrediction } from "./prediction.js";
import { rememberedPrevalence, statedPrevalence } from "./prevalence.js";
import { enqueue } from "./queue.js";
import { show } from "./rejections.js";
import { Result } from "./result.js";
import { takeSeries } from "./series_start.js";
import { connect, isReady } from "./service.js";
import { discardUpload, upload } from "./upload.js";
import { discard, drawWaiting, forgetRetired, hasUndecided, keep, releaseDecided, releaseUndecided } from "./waiting_list.js";

const UNAVAILABLE = [0, 502, 503, 504];
const results = [];
let scrollToResults = false;
let changeChoice = () => {};

/** Analyse what was dropped, chosen or pasted. */
async function receive(source) {
  try {
    analyse(await readIncoming(source));
  } catch (error) {
    show("Files to analyse", error);
  }
}

/** Analyse files with the chosen model; without a choice, or while the service is not ready, they wait. */
export function analyse(files) {
  if (files.length === 0) return;
  if (location.hash === "#history") location.hash = "#analyse";
  if (expectedModel() === null || isChoosing()) {
    keep(files, null);
    if (isChoosing()) byId("chooser-heading").focus();
    return;
  }
  const model = statedModel(files);
  if (model !== null) start(files, model);
}

/** Analyse the sample of a model; the age and view that are stated are about the next file. */
export function analyseSample(file, { name, version }, prevalence) {
  start([file], { name, version, assurances: "", prevalence, repair: "" });
}

/** Return the model for files, with what is stated about them now; null if that is invalid, which is shown. */
function statedModel(files) {
  const { name, version } = expectedModel();
  try {
    const prevalence = allModels().length > 0 ? statedPrevalence() : rememberedPrevalence(name);
    return { name, version, assurances: takeAssurances(), prevalence, repair: "" };
  } catch (error) {
    for (const file of files) show(file.name, error, { retry: () => analyse([file]) });
    return null;
  }
}

function start(files, model) {
  if (!isReady()) {
    keep(files, model);
    return;
  }
  scrollToResults = true;
  scroll();
  const single = (file) => submit(file, model);
  if (files.length === 1) single(files[0]);
  else takeSeries(files, model, { add: addResult, single }).then((rest) => rest.forEach(single));
}

/** Read the files without a choice as the one that was made now. */
export function decideWaiting() {
  analyse(releaseUndecided());
  resume();
}

/** Analyse the files that waited, if that is possible now. */
export function resume() {
  if (allModels().length > 0) forgetRetired(isServed);
  drawWaiting();
  if (isReady()) for (const [model, items] of Map.groupBy(releaseDecided(), ({ model: stated }) => stated)) start(items.map(({ file }) => file), model);
  if (hasUndecided() && allModels().length > 0 && !isChoosing()) changeChoice();
}

/** On narrow screens, where the results are below everything else, scroll to them. */
function scroll() {
  if (scrollToResults && matchMedia("(max-width: 900px)").matches) byId("work").scrollIntoView();
}

function submit(file, model) {
  enqueue(file, async (job) => {
    let sent = model;
    try {
      await checkFile(file);
      const sha256 = await digest(file);
      const { text, object } = await send(file, model, job);
      sent = { ...model, object };
      const prediction = parsePrediction(text, { ...model, sha256 });
      const version = await findVersion(prediction, connect);
      if (version !== null) checkCatalog(prediction, version);
      addResult(new Result(file, prediction, version, sent, (repair) => submit(file, { ...model, repair })));
    } catch (error) {
      if (sent.object) discardUpload(sent.object);
      if (error.name === "AbortError") return;
      reject(file, model, error);
    }
    // After the file has left the list in progress, which is above the results.
    requestAnimationFrame(() => {
      scroll();
      scrollToResults = false;
    });
  });
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

/** Show why a file has no result, and offer the repair that it may need, once. */
function reject(file, model, error) {
  const repair = model.repair ? null : suggestedRepair(error.domain);
  const name = repairedName(file.name, model.repair);
  const change = () => {
    changeChoice();
    keep([file], null);
  };
  const options = { subject: titleOf(model), change };
  if (repair) show(name, error, { ...options, retry: () => submit(file, { ...model, repair: repair.name }), text: repair.text });
  else show(name, error, { ...options, retry: () => retry(file, model, error) });
  if (UNAVAILABLE.includes(error.status) && error instanceof Problem && error.canRetry) connect();
}

/** Send a file again. What the server misses may have been filled in since. */
function retry(file, model, error) {
  if (error.title === MISSING_ATTRIBUTE && chosenModel()?.name === model.name) analyse([file]);
  else submit(file, model);
}

/** Reject files that cannot be an image before they are sent. */
async function checkFile(file) {
  const reject = (message) => { throw new Problem(message, { canRetry: false }); };
  if (problemOf(file)) throw problemOf(file);
  const start = await file.slice(0, START).arrayBuffer().catch(() => reject("This file cannot be opened. Drop files, not folders."));
  const message = unusableText(file.name, new Uint8Array(start));
  if (message !== null) reject(message);
}

function addResult(result) {
  results.push(result);
  byId("result-list").prepend(result.element);
  updateCount();
  announce(`${result.name}: ${result.summary}.`);
}

function updateCount() {
  byId("empty").hidden = results.length > 0;
  byId("clear").hidden = results.length === 0;
  byId("count").textContent = results.length > 1 ? `${results.length} files, newest first` : "";
}

function clear() {
  for (const result of results.splice(0)) {
    result.close();
    result.element.remove();
  }
  updateCount();
  byId("results-heading").focus();
}

/** Install the listeners; `change` lets the user choose another kind of image. */
export function install(change) {
  changeChoice = change;
  for (const id of ["pick", "camera"]) {
    byId(id).addEventListener("change", (event) => {
      receive(event.target.files);
      event.target.value = ""; // allows to choose the same file again
    });
  }
  byId("clear").addEventListener("click", clear);
  byId("discard").addEventListener("click", () => {
    discard();
    announce("The waiting files were removed.");
  });
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  const highlight = (on) => document.body.classList.toggle("dropping", on);
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    highlight(true);
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) highlight(false);
  });
  document.addEventListener("drop", (event) => {
    highlight(false);
    if (!hasFiles(event)) return;
    event.preventDefault();
    receive(event.dataTransfer);
  });
  document.addEventListener("paste", (event) => receive(event.clipboardData?.files ?? []));
}
