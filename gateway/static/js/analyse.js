// Analyses files that are dropped, chosen, photographed or pasted. Each file gets its own result or problem.

import { MISSING_ATTRIBUTE, Problem, post } from "./api.js";
import { takeAssurances } from "./assurances.js";
import { repairedName, suggestedRepair } from "./domain.js";
import { announce, byId } from "./dom.js";
import { findVersion, selectedModel } from "./models.js";
import { checkCatalog, digest, parsePrediction } from "./prediction.js";
import { statedPrevalence } from "./prevalence.js";
import { enqueue } from "./queue.js";
import { show } from "./rejections.js";
import { Result } from "./result.js";

const results = [];
let scrollToResults = false;

/** Analyse files with the selected model. */
export function analyse(files) {
  if (byId("model").disabled) {
    for (const file of files) show(file.name, new Problem("The list of models is not loaded yet. Wait a moment, then try again."), () => analyse([file]));
    return;
  }
  if (files.length === 0) return;
  let prevalence;
  try {
    prevalence = statedPrevalence();
  } catch (error) {
    for (const file of files) show(file.name, error, () => analyse([file]));
    return;
  }
  const model = { ...selectedModel(), assurances: takeAssurances(), prevalence, repair: "" };
  if (location.hash === "#history") location.hash = "#analyse";
  scrollToResults = true;
  scroll();
  for (const file of files) submit(file, model);
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
      const path = model.version === null ? model.name : `${model.name}/${model.version}`;
      const text = await post(`api/predictions/${path}`, file, { assurances: model.assurances, prevalence: model.prevalence, repair: model.repair, signal: job.signal, onProgress: (fraction) => job.progress(fraction) });
      const prediction = parsePrediction(text, { ...model, sha256 });
      const version = await findVersion(prediction.model.name, prediction.model.version);
      if (version !== null) checkCatalog(prediction, version);
      addResult(new Result(file, prediction, version, model, (repair) => submit(file, { ...model, repair })));
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

/** Show why a file has no result, and offer the repair that it may need, once. */
function reject(file, model, error) {
  const repair = model.repair ? null : suggestedRepair(error.domain);
  const name = repairedName(file.name, model.repair);
  if (repair) show(name, error, () => submit(file, { ...model, repair: repair.name }), repair.text);
  // What the server misses may have been filled in since.
  else show(name, error, () => (error.title === MISSING_ATTRIBUTE ? analyse([file]) : submit(file, model)));
}

/** Reject files that cannot be an image before they are sent. */
async function checkFile(file) {
  const reject = (message) => { throw new Problem(message, { canRetry: false }); };
  const start = await file.slice(0, 4).text().catch(() => reject("This file cannot be opened. Drop files, not folders."));
  if (start === "") reject("This file is empty.");
  if (start === "PK\u0003\u0004") reject("This is an archive of several files. Unpack it and drop the images.");
  if (start === "%PDF") reject("PDFs cannot be read. Export the image as PNG.");
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

/** Install the listeners. */
export function install() {
  for (const id of ["pick", "camera"]) {
    byId(id).addEventListener("change", (event) => {
      analyse([...event.target.files]);
      event.target.value = ""; // allows to choose the same file again
    });
  }
  byId("clear").addEventListener("click", clear);
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
