// Many files: analyses the rows of a table, with progress, cancel and repeat for the whole.

import { analyseFile } from "./analysis.js";
import { MISSING_ATTRIBUTE, Problem, post } from "./api.js";
import { BatchDetail } from "./batch_detail.js";
import { saveCsv, saveZip } from "./batch_export.js";
import { BatchHead } from "./batch_head.js";
import { KINDS, canRepeat, countKinds, isSettled, newRow, setResult, setState } from "./batch_rows.js";
import { BatchTable } from "./batch_table.js";
import { chosenModel } from "./choice.js";
import { announce, byId, make } from "./dom.js";
import { counted } from "./format.js";
import { countFrames } from "./frames.js";
import { pathOf } from "./incoming.js";
import { PARALLEL, enqueueBackground } from "./queue.js";
import { remember } from "./recent_files.js";
import { isUnavailable, settle, show, toProblem } from "./rejections.js";
import { drawn } from "./series_pictures.js";
import { connect, isReady } from "./service.js";
import { Thumbnails } from "./thumbnails.js";
import { discardUpload } from "./upload.js";

const MAX_ATTEMPTS = 10;
const MAX_PAUSE = 120; // seconds; a server that asks for more lets the files fail

let rows = [];
const running = new Map(); // row -> what cancels it
let pausedUntil = 0;
let began = { time: 0, settled: 0 };
let view = null;
let actions = {};

/** Install the actions `reconsider(files)`, which lets the user choose another kind of image, and `state(files)`, which returns the model with what is stated now. */
export function install(given) {
  actions = given;
  window.addEventListener("beforeunload", (event) => {
    if (isRunning()) event.preventDefault(); // the browser asks whether to leave
  });
}

/** Add files to the table, and analyse them with a model. */
export function start(files, model) {
  view ??= draw();
  add(files.map((file) => newRow(file, pathOf(file), model)), rows.length);
  announce(`${counted(files.length, "file is", "files are")} being analysed.`);
}

/** Continue with rows whose model is ready. */
export function resume() {
  if (rows.length) pump();
}

const countSettled = () => rows.filter(isSettled).length;
const isRunning = () => rows.some((row) => !isSettled(row));

function add(added, at) {
  if (!isRunning()) began = { time: performance.now(), settled: countSettled() };
  rows = rows.toSpliced(at, 0, ...added);
  byId("batch").hidden = false;
  view.table.show(rows);
  change();
  pump();
}

/** Analyse waiting rows whose model is ready, a few at the same time. */
function pump() {
  if (performance.now() < pausedUntil) return;
  for (const row of rows) {
    if (running.size >= PARALLEL) break;
    if (row.state === "waiting" && !running.has(row) && isReady(row.model)) {
      running.set(row, new AbortController());
      enqueueBackground(() => analyse(row));
    }
  }
  change();
}

async function analyse(row) {
  const { signal } = running.get(row);
  if (!signal.aborted) await attempt(row, signal);
  running.delete(row);
  if (isRunning()) pump();
  else finish();
}

async function attempt(row, signal) {
  setState(row, "running");
  change(row);
  try {
    const frames = await countFrames(row.file);
    if (frames > 1) throw new Problem(`This file holds ${frames} images: drop it alone.`, { canRetry: false });
    setResult(row, await analyseFile(row.file, row.model, { signal, progress: () => {} }));
    remember(row.prediction.image.sha256, row.file);
    settle(row.file);
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) setState(row, "cancelled");
    else await fail(row, toProblem(error));
  }
  change(row);
}

async function fail(row, problem) {
  const wait = problem.status === 429 ? problem.retryAfter || 1 : problem.status === 503 ? problem.retryAfter : 0;
  row.attempts += 1;
  if (wait > 0 && wait <= MAX_PAUSE && row.attempts < MAX_ATTEMPTS) {
    setState(row, "waiting");
    pause(wait);
    return;
  }
  setState(row, problem.canRetry ? "failed" : "rejected", problem);
  if (problem.status === 401 || problem.status === 403) cancel(); // the others would fail, too
  if (isUnavailable(problem)) await connect(); // if the service is gone, the others wait for it
}

function pause(seconds) {
  pausedUntil = Math.max(pausedUntil, performance.now() + 1000 * seconds);
  setTimeout(() => { change(); pump(); }, 1000 * seconds + 50);
}

function cancel() {
  for (const row of rows) {
    if (row.state !== "waiting") continue;
    setState(row, "cancelled");
    view.table.update(row);
    view.detail.update(row);
  }
  for (const controller of running.values()) controller.abort();
  if (running.size === 0) finish();
}

function finish() {
  if (rows.length === 0) return; // cleared meanwhile
  view.table.redraw(); // the server can now draw what the browser cannot
  change();
  const counts = countKinds(rows);
  const parts = [...KINDS].filter(([kind]) => counts.get(kind) > 0).map(([kind, name]) => `${name}: ${counts.get(kind)}`);
  announce(`${counted(rows.length, "file")}. ${parts.join(", ")}.`);
}

/** Analyse rows again that failed for a reason that may have passed, or were cancelled. */
function repeat(repeated) {
  const missing = repeated.filter(({ problem, model }) => problem?.title === MISSING_ATTRIBUTE && chosenModel()?.name === model.name);
  const stated = missing.length ? actions.state(missing.map(({ file }) => file)) : null; // may have been filled in since
  if (missing.length && stated === null) return;
  if (!isRunning()) began = { time: performance.now(), settled: countSettled() - repeated.length };
  for (const row of repeated) {
    if (missing.includes(row)) row.model = stated;
    row.attempts = 0;
    setState(row, "waiting");
    view.table.update(row);
    view.detail.update(row);
  }
  change();
  pump();
}

function clear() {
  close();
  for (const { sent } of rows) if (sent?.object) discardUpload(sent.object);
  rows = [];
  view.table.filter.reset();
  view.table.show(rows);
  view.thumbnails.clear();
  byId("batch").hidden = true;
  byId("results-heading").focus();
}

function remove(row) {
  rows = rows.filter((other) => other !== row);
  view.table.show(rows);
  close();
  if (rows.length === 0) clear();
  change();
}

function open(row) {
  view.table.active = row;
  view.table.element.hidden = true;
  view.detail.open(row, view.table.order);
  view.detail.element.scrollIntoView({ block: "nearest" });
}

/** Open the next row of the table, or the previous one. */
function step(by) {
  const row = view.table.order[view.table.order.indexOf(view.detail.row) + by];
  if (row) open(row);
}

function close() {
  const { row } = view.detail;
  if (row === null) return;
  view.detail.close();
  view.table.element.hidden = false;
  view.table.measure();
  view.table.focus(row);
}

/** Analyse a row again with a repaired image, in a new row after it. */
function repair(row, name) {
  const repaired = newRow(row.file, row.path, { ...row.model, repair: name });
  add([repaired], rows.indexOf(row) + 1);
  open(repaired);
}

/** Return the server's picture of a file that the browser cannot show; null while the server is needed for results. */
async function serverPicture({ file, prediction, sent, state }) {
  if (state === "rejected") return drawn(file); // by this browser, if it can
  if (isRunning() || prediction === null) return null;
  return post(`api/predictions/${prediction.model.name}/${prediction.model.version}`, file, { accept: "image/png;view=image", ...sent });
}

let isSaving = false;

async function saveAll() {
  if (isSaving) return;
  isSaving = true;
  await saveZip(rows).catch((error) => show("Results (ZIP)", error));
  isSaving = false;
}

function draw() {
  const thumbnails = new Thumbnails(serverPicture);
  const detail = new BatchDetail({
    close,
    step,
    repeat: (row) => repeat([row]),
    repair,
    reconsider: (row) => {
      remove(row);
      actions.reconsider([row.file]);
    },
  });
  const table = new BatchTable({ onOpen: open, thumbnails });
  const head = new BatchHead({
    clear,
    cancel,
    repeat: () => repeat(rows.filter(canRepeat)),
    saveCsv: () => saveCsv(rows),
    saveZip: saveAll,
  });
  byId("batch").replaceChildren(head.element,
    make("div", { class: "panel batch-panel" }, head.progress, head.warnings, table.element, detail.element));
  return { thumbnails, detail, table, head };
}

let frame = 0;

/** Show that a row, or all of them, has changed. */
function change(row = null) {
  if (view === null) return;
  if (row) {
    view.table.update(row);
    view.detail.update(row);
  }
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    view.detail.locate(view.table.order);
    view.head.draw(rows, { isReady: rows.every(({ state, model }) => state !== "waiting" || isReady(model)), isPaused: performance.now() < pausedUntil, began });
  });
}
