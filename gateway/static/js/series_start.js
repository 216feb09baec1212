// Finds series among the files that are to be analysed, and analyses each as one; the other files are analysed singly.

import { findVersion, knownModel, knownVersion } from "./catalog.js";
import { titleOf } from "./choice.js";
import { HEADER_BYTES, isDicom, readHeader } from "./dicom_header.js";
import { alertReader, button, byId, make } from "./dom.js";
import { pathOf } from "./incoming.js";
import { checkCatalog } from "./prediction.js";
import { enqueue } from "./queue.js";
import { remember } from "./recent_files.js";
import { isUnavailable, settle, show } from "./rejections.js";
import { foldersOf, splitSeries } from "./series.js";
import { analyseSlices } from "./series_request.js";
import { SeriesResult } from "./series_view.js";
import { connect } from "./service.js";

const START_BYTES = 140; // of which DICOM's mark ends at 132
const AT_ONCE = 64; // files whose headers are read together

/**
 * Analyse the series among files with a model; return a promise of the other files.
 *
 * `add(result)` shows a result, `fail(element)` brings a problem into view, `others(files)` analyses files that are not
 * slices, `reconsider(files)` lets the user choose another model. Numbered images may be slices of one examination or not, so the page asks.
 */
export async function takeSeries(files, model, actions) {
  const { items, series, numbered } = await groupFiles(files);
  const offered = segments(model) ? numbered : [];
  for (const stack of series) submit(stack, model, actions);
  for (const stack of offered) offer(stack, model, actions);
  const taken = new Set([...series, ...offered].flatMap((stack) => stack.items));
  return items.filter((item) => !taken.has(item)).map(({ file }) => file);
}

async function groupFiles(files) {
  const items = [];
  try {
    for (let at = 0; at < files.length; at += AT_ONCE) items.push(...await Promise.all(files.slice(at, at + AT_ONCE).map(describe)));
    return { items, ...splitSeries(items) };
  } catch (error) {
    console.warn("The files are analysed singly:", error);
    return { items: files.map((file) => ({ file })), series: [], numbered: [] };
  }
}

async function describe(file) {
  const read = (length) => file.slice(0, length).arrayBuffer().catch(() => new ArrayBuffer(0)); // the analysis says that it cannot be opened
  const start = await read(START_BYTES);
  const header = isDicom(start) ? readHeader(await read(HEADER_BYTES)) : null;
  return { file, path: pathOf(file), header, isImage: isImage(start) };
}

/** Whether a file is a picture of the formats whose files say nothing about an examination. */
function isImage(start) {
  const text = String.fromCharCode(...new Uint8Array(start.slice(0, 6)));
  return ["\u0089PNG", "\u00ff\u00d8\u00ff", "II*\0", "MM\0*", "BM", "RIFF", "\u0093NUMPY"].some((magic) => text.startsWith(magic));
}

/** Whether a model outlines something: only then several images may be meant as one volume. */
function segments({ name, version }) {
  const entry = knownVersion(name, version ?? knownModel(name)?.versions[0].version);
  return entry?.task === "segmentation";
}

/** Ask whether numbered images are slices of one examination. */
function offer(stack, model, actions) {
  const text = `${stack.items.length} numbered images (${nameOf(stack)}): are they the slices of one examination?`;
  const decide = (action) => () => {
    notice.remove();
    byId("results-heading").focus();
    action();
  };
  const notice = make("div", { class: "notice series-offer", role: "group", "aria-label": "Slices of one examination?" },
    make("p", {}, make("strong", {}, text), ` As one series they are shown in the order of their numbers. Read as ${titleOf(model)}.`),
    make("div", { class: "row" },
      button("One examination", decide(() => submit(stack, model, actions)), { class: "button primary" }),
      button("Separate images", decide(() => actions.others(stack.items.map(({ file }) => file))))));
  byId("waiting").after(notice);
  notice.scrollIntoView({ block: "nearest" });
  alertReader(text);
}

/** Return what a series is called: its folder or zip file, else its first and last file. */
function nameOf({ items }) {
  const folders = foldersOf(items);
  const [folder] = folders;
  return folders.size === 1 && folder ? folder : `${items[0].file.name} to ${items.at(-1).file.name}`;
}

function submit(stack, model, actions) {
  const name = nameOf(stack);
  const files = stack.items.map(({ file }) => file);
  const size = files.reduce((sum, file) => sum + file.size, 0);
  enqueue({ name: `${name} (${files.length} slices)`, size }, async (job) => {
    try {
      const analysed = await analyseSlices(files, model, { signal: job.signal, progress: (fraction) => job.progress(fraction) });
      const predictions = analysed.outcomes.flatMap(({ prediction }) => prediction ?? []);
      if (predictions.length === 0) throw analysed.outcomes[0].problem;
      const version = await findVersion(predictions[0], connect);
      if (version !== null) for (const prediction of predictions) checkCatalog(prediction, version);
      analysed.outcomes.forEach(({ prediction }, index) => remember(prediction?.image.sha256, files[index]));
      settle(...files);
      const { assurances, prevalence, repair } = model;
      actions.add(new SeriesResult(name, stack, { ...analysed, change: () => actions.reconsider(files) }, version, { assurances, prevalence, repair }));
    } catch (error) {
      if (error.name === "AbortError") return;
      actions.fail(show(`${name} (${files.length} slices)`, error, { files, subject: titleOf(model), retry: () => submit(stack, model, actions), change: () => actions.reconsider(files) }));
      if (isUnavailable(error)) connect();
    }
  });
}
