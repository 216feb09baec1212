// Card of one examination: its slices in one viewer, a strip of where the finding is, the volume, and downloads.

import { dicomButton } from "./dicom_downloads.js";
import { displayName } from "./display.js";
import { domainText } from "./domain.js";
import { button, make, save, terms } from "./dom.js";
import { accuracy, audience, missedText, section } from "./evidence.js";
import { capitalize, percent } from "./format.js";
import { showCard } from "./model_card.js";
import { colourize, toPng } from "./pictures.js";
import { positiveLabel } from "./prediction.js";
import { isUnfit, show } from "./rejections.js";
import { document as wholeDocument, table } from "./series_downloads.js";
import { legendText, oddSlices, rejectionNotice } from "./series_notes.js";
import { SlicePictures } from "./series_pictures.js";
import { instancesOf, isOneRequest } from "./series_request.js";
import { areaText, firstShown, hasClaim, headline, limits, millimetres, sliceState, volumeOf, volumeText, warnings } from "./series_summary.js";
import { scrollSlices } from "./slice_scroll.js";
import { Strip } from "./strip.js";
import { nextStep, symbol } from "./verdict.js";
import { Viewer } from "./viewer.js";

const MAX_MASKS = 16; // of which the picture and the outline are kept
const BOM = "\ufeff"; // or spreadsheets read UTF-8 as another encoding

/**
 * Card of a `stack` with an outcome for each slice, from `analyseSlices`; `version` is the model's catalog entry or null,
 * `change` lets the user choose another kind of image.
 */
export class SeriesResult {
  constructor(name, stack, { outcomes, volume, isSaved, change = null }, version, options) {
    Object.assign(this, { name, stack, outcomes, volume, isSaved, change, version });
    this.masks = new Map(); // index -> canvas
    this.pending = new Set(); // indices of masks that are being drawn
    this.states = outcomes.map((outcome) => sliceState(outcome, version));
    this.first = outcomes.find(({ prediction }) => prediction).prediction;
    this.isMask = "mask" in this.first;
    this.thing = stack.thing ?? "slice";
    this.finding = headline(outcomes, version, this.thing);
    const { model } = this.first;
    this.modelName = displayName(version, model.name);
    Object.assign(this, { options, path: `${model.name}/${model.version}` });
    this.pictures = this.openPictures(stack.items.map(({ file }) => file), this.path, options);
    this.viewer = new Viewer(this.first.image, name, { isDicom: this.first.image.format === "dicom", overlayName: this.isMask ? "mask" : "" });
    this.note = make("p", { class: "no-picture small", hidden: true });
    this.caption = make("p", { class: "small picture-caption", hidden: true });
    this.frame = make("div", { class: "series-viewer" }, this.viewer.element, this.note);
    this.pictures.onLoad = (index) => { if (index === this.strip.index) this.show(index); };
    this.slice = make("div", { class: "this-slice" });
    this.strip = this.drawStrip();
    this.viewer.stages.after(this.strip.element, this.legend, this.caption);
    scrollSlices(this.viewer, (step) => this.strip.go(this.strip.index + step), outcomes.length);
    this.element = this.draw();
    this.strip.go(firstShown(this.states));
  }

  openPictures(files, path, options) {
    return new SlicePictures(files, this.outcomes, path, options);
  }

  drawStrip() {
    const values = this.states.map(({ value }) => value ?? 0);
    const texts = this.states.map(({ text }) => text);
    const top = this.isMask ? Math.max(...values) : 1;
    this.legend = make("p", { class: "small strip-legend" }, legendText(this, top));
    return new Strip({ states: this.states, texts, top, line: this.isMask ? null : this.first.threshold, gaps: this.stack.gaps.map(({ after }) => after), label: capitalize(this.thing) }, (index) => this.show(index));
  }

  draw() {
    const { first, version, finding: { kind, text, rest } } = this;
    const sign = symbol(kind) ? make("span", { class: "sign", "aria-hidden": "true" }, symbol(kind)) : null;
    const warning = version ? version.warning : first.warning; // of the model; that of a prediction may concern its image
    const { ml } = this.isMask ? volumeOf(this.stack, this.outcomes, this.volume) : {};
    const limited = limits(this.outcomes, ml !== undefined, this.thing);
    const odd = oddSlices(this.states, this.outcomes, this.thing, (indices) => this.strip.go(indices.find((index) => index > this.strip.index) ?? indices[0]));
    const isPositive = this.states.some((state) => state.kind === "positive");
    const isMissing = rest && this.states.some(hasClaim) && !this.outcomes.some(({ problem }) => problem && isUnfit(problem)); // deleted, or a technical failure
    const step = ["doubtful", "uncertain"].includes(kind) && !isMissing ? kind : isPositive ? "positive" : "negative";
    const notes = warnings(this.stack, this.outcomes);
    const facts = make("div", { class: "facts" },
      warning ? make("p", { class: "warning" }, make("strong", {}, "Warning: "), warning) : null,
      section(`This ${this.thing}`, this.slice),
      limited.length || odd ? section(`All ${this.thing}s`, ...limited.map((line) => make("p", {}, line)), odd) : null,
      audience(version), rest ? null : accuracy(first, version),
      section("What to do next", make("p", {}, nextStep(step, first, missedText(first, version)))),
      this.details(), this.downloads());
    return make("li", { class: `panel result result-${kind} series` },
      make("div", { class: "result-head" },
        make("div", {}, make("h3", { tabindex: "-1" }, this.name), make("p", { class: "small" }, `${this.outcomes.length} ${this.thing}s, read as ${this.modelName}`)),
        make("div", { class: `verdict verdict-${kind}` }, sign, make("p", { class: { positive: "label marked", doubtful: "no-finding", uncertain: "no-finding" }[kind] ?? "label" }, text)),
        rest ? rejectionNotice(this.outcomes, rest, this.thing, this.change) : null,
        this.isMask && !rest ? make("p", { class: "volume" }, volumeText(this.stack, this.outcomes, this.volume), ml === undefined ? null : " Do not measure with it.") : null,
        notes.length ? make("ul", { class: "warning series-warnings" }, notes.map((note) => make("li", {}, note))) : null),
      make("div", { class: "result-body" }, make("div", { class: "view" }, this.frame), facts));
  }

  details() {
    const { model } = this.first;
    const { order, distance, kind } = this.stack;
    const ordered = { position: "position in the patient", instance: "instance number", name: "number in the name", none: "file name", sent: "as sent", frames: "as in the file" }[order];
    return make("details", {}, make("summary", {}, `Details and ${this.thing}s`), terms([
      ["Model", make("button", { type: "button", class: "link", on: { click: () => showCard(model.name, model.version) } }, `${this.modelName} (${model.name}), version ${model.version}`)],
      ["Order", ordered],
      ["Slice distance", this.thing === "image" || kind === "frames" ? null : kind === "stored" ? "Not kept" : distance === null || kind === "names" ? "Not stated" : millimetres(distance)],
      ["History", this.isSaved ? null : "Not saved: the history is unavailable"],
    ]), make("ol", { class: "slice-list" }, this.states.map(({ text }, index) => make("li", {},
      button(`${index + 1}. ${this.stack.items[index].file.name}: ${text}`, () => this.strip.go(index), { class: "link" })))));
  }

  downloads() {
    const { download: name } = this;
    const csv = () => save(new Blob([BOM, table(this.stack, this.outcomes, this.states)], { type: "text/csv;charset=utf-8" }), `${name}.csv`);
    const json = () => save(new Blob([JSON.stringify(wholeDocument(this.stack, this.outcomes, this.volume), null, 2)], { type: "application/json" }), `${name}.json`);
    this.row = make("div", { class: "row" }, button(`${capitalize(this.thing)}s (CSV)`, csv), button(this.thing === "image" ? "Everything (JSON)" : "Examination (JSON)", json));
    this.addDicomButton();
    return make("div", { class: "download" }, make("p", { class: "small" }, "Download"), this.row);
  }

  /** Return the beginning of the names of downloaded files. */
  get download() {
    return `${this.name.replace(/[^\w.-]+/g, "_")}.${this.first.model.name}`;
  }

  /** Offer the masks of DICOM slices as DICOM, if their files can be sent again. */
  addDicomButton() {
    const isDicom = this.isMask && this.outcomes.every(({ prediction }) => !prediction || prediction.image.format === "dicom");
    const { loadFiles: load, path, options } = this;
    const hasPicture = !this.first.image.frame;
    if (isDicom && load) this.row.append(...dicomButton(this.download, this.name, path, options, async () => ({ instances: await instancesOf(await load()) }), hasPicture));
  }

  /** Return what loads the files of all slices to send them again; null if one request cannot. */
  get loadFiles() {
    const files = this.stack.items.map(({ file }) => file);
    return isOneRequest(files.map(({ size }) => size)) ? async () => files : null;
  }

  /** Show a slice. Until its picture is loaded there is none, never that of another slice. */
  show(index) {
    this.slice.replaceChildren(...this.describe(index));
    const { viewer } = this;
    const { prediction } = this.outcomes[index];
    const picture = this.pictures.get(index);
    viewer.sheet.hidden = !picture;
    this.annotate(picture, this.noteText(index, picture));
    if (!picture) return;
    viewer.setBare("undrawn" in picture.dataset);
    picture.setAttribute(picture.tagName === "IMG" ? "alt" : "aria-label", `${capitalize(this.thing)} ${index + 1} of ${this.outcomes.length}`);
    const { file } = this.stack.items[index];
    viewer.show(picture, file.size ? file : null);
    // An empty mask keeps the controls of the masks of other slices in place.
    viewer.setOverlay(this.isMask ? this.masks.get(index) ?? this.emptyMask() : null, "mask");
    if (prediction?.area?.pixels && !this.masks.has(index) && !this.pending.has(index)) this.showMask(index, prediction);
  }

  /** Show a text below a picture, which it would cover, or in place of a missing one; while one is loaded, the text below stays. */
  annotate(picture, text) {
    const isDrawn = picture && !("blank" in picture.dataset || "undrawn" in picture.dataset);
    this.note.textContent = isDrawn ? "" : text;
    if (picture !== undefined) this.caption.textContent = isDrawn ? text : "";
    for (const element of [this.note, this.caption]) element.hidden = element.textContent === "";
  }

  /** Return the note on a picture of `SlicePictures.get`, or on its absence. */
  noteText(index, picture) {
    if (picture === undefined) return "Loading the picture …";
    if (picture?.tagName === "IMG") return "";
    if (picture && "undrawn" in picture.dataset) return "This page cannot draw these frames; open the file in your viewer.";
    if (picture) return picture.dataset.window ? "Shown with a window chosen by this page, not the file's." : "";
    const reason = this.outcomes[index].prediction ? "the server shows no picture of this slice alone" : "this slice could not be analysed";
    return `No picture: ${reason}.`;
  }

  emptyMask() {
    const { width, height } = this.viewer;
    if (this.empty?.width !== width || this.empty.height !== height) this.empty = make("canvas", { width, height, "aria-hidden": "true" });
    return this.empty;
  }

  async showMask(index, { image }) {
    this.pending.add(index);
    try {
      const blob = await this.loadMask(index);
      const overlay = blob ? await colourize(blob, "mask", image) : null;
      if (overlay === null) return;
      this.masks.set(index, overlay);
      if (this.masks.size > MAX_MASKS) this.masks.delete(this.masks.keys().next().value);
      if (index === this.strip.index) this.viewer.setOverlay(overlay, "mask");
    } catch (error) {
      if (error.name !== "AbortError") show(`${this.name}, mask of slice ${index + 1}`, error);
    } finally {
      this.pending.delete(index);
    }
  }

  /** Return the mask of a slice as a PNG; null without one. */
  async loadMask(index) {
    return toPng(this.outcomes[index].prediction.mask.data);
  }

  describe(index) {
    const { prediction, problem } = this.outcomes[index];
    const { text } = this.states[index];
    const claim = hasClaim(this.states[index]) ? prediction : null;
    const place = this.stack.places?.[index];
    const label = claim ? positiveLabel(claim) : null;
    return [make("p", { class: "slice-text" }, text), terms([
      [capitalize(this.thing), `${index + 1} of ${this.outcomes.length}`],
      ["File", this.stack.items[index].file.name],
      ["Position", place === undefined ? null : millimetres(place)],
      ["Area", claim?.area?.pixels ? areaText(claim.area) : null],
      ["Probability", label ? `${percent(claim.probabilities[label])} (${label})` : null],
      ["Image check", prediction?.domain ? domainText(prediction.domain) : null],
      ["Reason", problem ? problem.message : null],
      ["Details", problem?.detail],
    ])];
  }

  /** What the results say, in one line. */
  get summary() {
    return `${this.finding.text}${this.isMask ? `. ${volumeText(this.stack, this.outcomes, this.volume).replace(/\.$/, "")}` : ""}`;
  }

  /** Release the pictures. */
  close() {
    this.viewer.close();
    this.pictures.close();
    this.masks.clear();
  }
}
