// Analyses files that are dropped, chosen, photographed or pasted. Each file gets its own result or problem.

import { analyseFile } from "./analysis.js";
import { MISSING_ATTRIBUTE } from "./api.js";
import { noteShared, takeAssurances } from "./assurances.js";
import * as batch from "./batch.js";
import { allModels } from "./catalog.js";
import { chosenModel, expectedModel, isServed, titleOf } from "./choice.js";
import { isChoosing } from "./chooser.js";
import { offer } from "./claims.js";
import { repairedName, suggestedRepair } from "./domain.js";
import { announce, byId, make } from "./dom.js";
import { analyseFrames, countFrames } from "./frames.js";
import { readIncoming } from "./incoming.js";
import { expectOutcome, showOutcome } from "./latest.js";
import { rememberedPrevalence, statedPrevalence } from "./prevalence.js";
import { enqueue } from "./queue.js";
import { isUnavailable, settle, show } from "./rejections.js";
import { remember } from "./recent_files.js";
import { Result } from "./result.js";
import { takeSeries } from "./series_start.js";
import { connect, isReady } from "./service.js";
import { discard, drawWaiting, forgetRetired, hasUndecided, keep, releaseDecided, releaseUndecided } from "./waiting_list.js";

const MAX_CARDS = 3; // more files of one drop become a table
const PATIENCE = 500; // milliseconds until the page says that it reads folders or zip files
const results = [];
let changeChoice = () => {};

/** Analyse what was dropped, chosen or pasted. */
async function receive(source) {
  if (source.length === 0) return; // text was pasted
  const stated = stateNow(); // reading takes time, in which the next choice may be made
  try {
    analyse(await reading(readIncoming(source)), stated);
  } catch (error) {
    show("Files to analyse", error);
  }
}

/** Say that files are read, if that takes long. */
async function reading(work) {
  const notice = make("p", { class: "notice", role: "status" }, "Reading the files …");
  const timer = setTimeout(() => byId("waiting").after(notice), PATIENCE);
  try {
    return await work;
  } finally {
    clearTimeout(timer);
    notice.remove();
  }
}

/** Analyse files with the model and what was `stated` about them; without a choice, or while the service is not ready, they wait. */
export function analyse(files, stated = null) {
  if (files.length === 0) return;
  if (offer(files, (others) => analyse(others, stated))) return;
  if (location.hash.startsWith("#history")) location.hash = "#analyse";
  const current = stated ?? stateNow();
  if (current === null) {
    keep(files, null);
    if (isChoosing()) byId("chooser-heading").focus();
    return;
  }
  const model = requireValid(current, files);
  if (model === null) return;
  if (files.length > 1) noteShared(model.assurances, files.length);
  start(files, model);
}

/** Analyse the sample of a model; the age and view that are stated are about the next file. */
export function analyseSample(file, { name, version }, prevalence) {
  start([file], { name, version, assurances: "", prevalence, repair: "" });
}

const stateNow = () => (expectedModel() === null || isChoosing() ? null : state());

/** Return the chosen `model` with what is stated now, or the `error` if that is invalid. */
function state() {
  const { name, version } = expectedModel();
  try {
    const prevalence = allModels().length > 0 ? statedPrevalence() : rememberedPrevalence(name);
    return { model: { name, version, assurances: takeAssurances(), prevalence, repair: "" } };
  } catch (error) {
    return { error };
  }
}

/** Return the model for files; null if what is stated about them is invalid, which is shown. */
function requireValid({ model = null, error }, files) {
  if (error) show(files.length === 1 ? files[0].name : `${files.length} files`, error, { retry: () => analyse(files) });
  return model;
}

function start(files, model) {
  if (!isReady(model)) {
    keep(files, model);
    return;
  }
  const drop = expectOutcome();
  const actions = {
    add: (result) => addResult(result, drop),
    fail: (element) => showOutcome(element, drop),
    others: (others) => submitAll(others, model, drop),
    reconsider,
  };
  if (files.length === 1) submit(files[0], model, drop);
  else reading(takeSeries(files, model, actions)).then(actions.others);
  if (matchMedia("(max-width: 900px)").matches) requestAnimationFrame(() => byId("work").scrollIntoView()); // below everything else
}

function submitAll(files, model, drop) {
  if (files.length > MAX_CARDS) {
    batch.start(files, model);
    showOutcome(byId("batch"), drop);
  } else for (const file of files) submit(file, model, drop);
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
  for (const [model, items] of Map.groupBy(releaseDecided(), ({ model: stated }) => stated)) start(items.map(({ file }) => file), model);
  batch.resume();
  if (hasUndecided() && allModels().length > 0 && !isChoosing()) changeChoice();
}

function submit(file, model, drop = null) {
  enqueue(file, async (job) => {
    try {
      if (await countFrames(file) > 1) return addResult(await analyseFrames(file, model, job), drop);
      const { prediction, version, sent } = await analyseFile(file, model, job);
      addResult(new Result(file, prediction, version, sent, (repair) => submit(file, { ...model, repair })), drop);
    } catch (error) {
      if (error.name === "AbortError") return;
      reject(file, model, error, drop);
    }
  });
}

/** Show why a file has no result, and offer the repair that it may need, once. */
function reject(file, model, error, drop) {
  const repair = model.repair ? null : suggestedRepair(error.domain);
  const name = repairedName(file.name, model.repair);
  const change = () => reconsider([file]);
  const options = { subject: titleOf(model), change, file };
  const action = repair ? { retry: () => submit(file, { ...model, repair: repair.name }), text: repair.text } : { retry: () => retry(file, model, error) };
  showOutcome(show(name, error, { ...options, ...action }), drop);
  if (isUnavailable(error)) connect();
}

/** Send a file again. What the server misses may have been filled in since. */
function retry(file, model, error) {
  if (error.title === MISSING_ATTRIBUTE && chosenModel()?.name === model.name) analyse([file]);
  else submit(file, model);
}

function addResult(result, drop) {
  results.push(result);
  byId("result-list").prepend(result.element);
  updateCount();
  announce(`${result.name}: ${result.summary}.`);
  remember(result.prediction?.image.sha256, result.file);
  if (result.file) settle(result.file);
  showOutcome(result.element, drop);
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

/** Analyse files as another kind of image, which the user chooses. */
function reconsider(files) {
  changeChoice();
  keep(files, null);
}

/** Install the listeners; `change` lets the user choose another kind of image. */
export function install(change) {
  changeChoice = change;
  batch.install({ reconsider, state: (files) => requireValid(state(), files) });
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
