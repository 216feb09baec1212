// Analyses files that are dropped, chosen, photographed or pasted. Each file gets its own result or problem.

import { MISSING_ATTRIBUTE, Problem, post } from "./api.js";
import { takeAssurances } from "./assurances.js";
import { findVersion } from "./catalog.js";
import { chosenModel, chosenVersion } from "./choice.js";
import { displayName } from "./display.js";
import { repairedName, suggestedRepair } from "./domain.js";
import { announce, byId } from "./dom.js";
import { START, unusableText } from "./file_type.js";
import { checkCatalog, digest, parsePrediction } from "./prediction.js";
import { statedPrevalence } from "./prevalence.js";
import { enqueue } from "./queue.js";
import { show } from "./rejections.js";
import { Result } from "./result.js";
import { connect, isReady } from "./service.js";
import { upload } from "./upload.js";
import { explainWaiting, keep, release, waitingCount } from "./waiting_list.js";

const UNAVAILABLE = [0, 502, 503, 504];
const results = [];
let scrollToResults = false;
let changeChoice = () => {};

/** Analyse files with the chosen model; without a choice, or while the service is not ready, they wait. */
export function analyse(files) {
  if (files.length === 0) return;
  if (location.hash === "#history") location.hash = "#analyse";
  if (chosenModel() === null || !isReady()) {
    explain();
    keep(files);
    if (chosenModel() === null && !byId("chooser").hidden) byId("chooser-heading").focus();
    return;
  }
  let prevalence;
  try {
    prevalence = statedPrevalence();
  } catch (error) {
    for (const file of files) show(file.name, error, { retry: () => analyse([file]) });
    return;
  }
  const model = { ...chosenModel(), title: displayName(chosenVersion(), chosenModel().name), assurances: takeAssurances(), prevalence, repair: "", object: "" };
  scrollToResults = true;
  scroll();
  for (const file of files) submit(file, model);
}

/** Analyse the files that waited, if that is possible now. */
export function resume() {
  explain();
  if (waitingCount() > 0 && chosenModel() !== null && isReady()) analyse(release());
}

function explain() {
  const choice = chosenModel() === null ? "Choose what they show." : "";
  explainWaiting([choice, isReady() ? "" : "They are analysed when the service is ready."].filter(Boolean).join(" "));
}

/** On narrow screens, where the results are below everything else, scroll to them. */
function scroll() {
  if (scrollToResults && matchMedia("(max-width: 900px)").matches) byId("work").scrollIntoView();
}

function submit(file, model) {
  enqueue(file, async (job) => {
    try {
      await checkFile(file);
      const sha256 = await digest(file);
      const { text, sent } = await send(file, model, job);
      const prediction = parsePrediction(text, { ...model, sha256 });
      const version = await findVersion(prediction.model.name, prediction.model.version);
      if (version !== null) checkCatalog(prediction, version);
      addResult(new Result(file, prediction, version, sent, (repair) => submit(file, { ...sent, repair })));
    } catch (error) {
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

/** Send a file; one that is too large for a request takes the way through storage. Return the response, and the model with the key of that upload. */
async function send(file, model, job) {
  const path = `api/predictions/${model.version === null ? model.name : `${model.name}/${model.version}`}`;
  const attempt = async (sent) => ({ text: await post(path, file, { ...sent, signal: job.signal, onProgress: (fraction) => job.progress(fraction) }), sent });
  try {
    return await attempt(model);
  } catch (error) {
    if (error.status !== 413 || model.object) throw error;
    return await attempt({ ...model, object: await upload(file, error, job) });
  }
}

/** Show why a file has no result, and offer the repair that it may need, once. */
function reject(file, model, error) {
  const repair = model.repair ? null : suggestedRepair(error.domain);
  const name = repairedName(file.name, model.repair);
  const options = { subject: model.title, change: changeChoice };
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
      analyse([...event.target.files]);
      event.target.value = ""; // allows to choose the same file again
    });
  }
  byId("clear").addEventListener("click", clear);
  byId("discard").addEventListener("click", () => {
    release();
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
    analyse([...event.dataTransfer.files]);
  });
  document.addEventListener("paste", (event) => analyse([...(event.clipboardData?.files ?? [])]));
}
