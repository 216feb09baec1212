// Card of one analysed file.

import { post } from "./api.js";
import { imageNotes, scopeTerms } from "./assurances.js";
import { dicomButton } from "./dicom_downloads.js";
import { acceptsPhotographs, displayName, findingName, labelText } from "./display.js";
import { domainNote, domainText, isDoubtful, repairedName, repairNote, repairText } from "./domain.js";
import { announce, button, make, save, terms } from "./dom.js";
import { accuracy, audience, missedText, prevalenceControl, section } from "./evidence.js";
import { counted, cutoff, isUncertain, localTime, percent, stem } from "./format.js";
import { isStrongestOutside } from "./heat_map.js";
import { showCard } from "./model_card.js";
import { captioned, colourize, reduce, toPng } from "./pictures.js";
import { parseExplanation, positiveLabel } from "./prediction.js";
import { atPrevalence, decision, ranking, uncertainty } from "./probabilities.js";
import { show } from "./rejections.js";
import { isSample } from "./samples.js";
import { discardUpload } from "./upload.js";
import { nextStep, symbol, verdict } from "./verdict.js";
import { Viewer } from "./viewer.js";

const SMALL_INPUT = 64;
const OUTSIDE = "The heat map is strongest outside the body: the result may rest on a marker, a margin or the background. Do not rely on this result.";

/**
 * Card of a prediction from `parsePrediction`; `version` is the model's catalog entry or null. `assurances`,
 * `prevalence` and the key of an upload (`object`) were sent.
 *
 * `repeat(repair)` analyses the file again with a repair.
 */
export class Result {
  constructor(file, prediction, version, { assurances = "", prevalence = "", object = "" } = {}, repeat = () => {}) {
    this.options = { assurances, prevalence, object, repair: prediction.repair ?? "" }; // of further requests about this image
    this.repeat = repeat;
    this.verdict = verdict(prediction, version);
    this.isDoubtful = isDoubtful(prediction.domain);
    this.file = file;
    this.prediction = prediction;
    this.name = repairedName(file.name, prediction.repair);
    this.version = version;
    this.modelName = displayName(version, prediction.model.name);
    this.path = `${prediction.model.name}/${prediction.model.version}`;
    this.download = `${stem(this.name)}.${prediction.model.name}`;
    this.overlay = null;
    this.overlayWarning = null;
    this.heatMap = null;
    const isMask = "mask" in prediction;
    this.viewer = new Viewer(prediction.image, this.name, {
      windows: !acceptsPhotographs(version), isDicom: prediction.image.format === "dicom", finding: isMask && !this.isDoubtful ? findingName(version, version?.positive ?? null) : null,
      overlayName: isMask ? "mask" : version?.explains === false ? "" : "heat map",
    });
    this.viewer.onImage = () => this.checkHeatMap().catch((error) => show(`${this.name}, heat map`, error));
    this.pictureButton = button("Picture (PNG)", () => this.savePicture(), { disabled: true });
    this.downloads = make("div", { class: "row" }, this.pictureButton,
      button("Result (JSON)", () => save(new Blob([JSON.stringify(prediction, null, 2)], { type: "application/json" }), `${this.download}.json`)));
    this.addDicomButton();
    this.heatButton = null;
    this.element = this.draw();
    this.fill();
  }

  draw() {
    const { prediction, version, warning, verdict: { kind } } = this;
    const next = section("What to do next", make("p", {}, this.isDoubtful && isSample(this.file) ? "This sample only shows how the page works." : nextStep(kind, prediction, missedText(prediction, version))));
    const facts = make("div", { class: "facts" },
      warning ? make("p", { class: "warning" }, make("strong", {}, "Warning: "), warning) : null,
      repairNote(prediction.repair),
      domainNote(prediction, this.repeat, isSample(this.file), version?.rejections),
      this.isDoubtful ? next : null,
      ...imageNotes(prediction),
      this.output(),
      audience(version),
      ...(this.isDoubtful ? [] : [accuracy(prediction, version), prevalenceControl(prediction, version)]),
      this.isDoubtful ? null : next,
      scopeTerms(prediction),
      this.details(),
      make("div", { class: "download" }, make("p", { class: "small" }, "Download"), this.downloads));
    return make("li", { class: `panel result result-${kind}` },
      make("div", { class: "result-head" },
        make("div", {}, make("h3", { tabindex: "-1" }, this.name), make("p", { class: "small" }, `Read as ${this.modelName}`)),
        this.headline()),
      make("div", { class: "result-body" },
        make("div", { class: "view" }, this.viewer.element, this.heatMapControl()), facts));
  }

  /** Whether the result can be requested as DICOM. */
  get hasDicom() {
    return this.prediction.image.format === "dicom";
  }

  /** Return the file, to send it again. */
  fileToSend() {
    return this.file;
  }

  addDicomButton() {
    if (this.hasDicom) this.downloads.append(...dicomButton(this.download, this.name, this.path, this.options, async () => ({ file: this.fileToSend() })));
  }

  /** What the model found. An image that is not like the training images gets no label, nor its look. */
  headline() {
    const { kind, text } = this.verdict;
    const sign = symbol(kind) ? make("span", { class: "sign", "aria-hidden": "true" }, symbol(kind)) : null;
    const look = this.isDoubtful ? "no-finding" : { uncertain: "label uncertain", negative: "label" }[kind] ?? "label marked";
    return make("div", { class: `verdict verdict-${kind}` }, sign, make("p", { class: look }, text));
  }

  /** How sure the model is; of an image that is not like the training images only on request. */
  output() {
    const { prediction, version } = this;
    const { area } = prediction;
    if (this.isDoubtful) {
      return make("details", { class: "output-details", on: { toggle: ({ target }) => this.toggleMask(target.open) } }, make("summary", {}, "Model output, do not rely on it"),
        make("p", { class: "output" }, labelText({ ...prediction, isMask: "mask" in prediction }, version)),
        area ? areaTerms(prediction) : ranking(prediction));
    }
    return section(area ? "What was marked" : "How sure", uncertainty(prediction),
      area ? areaTerms(prediction) : positiveLabel(prediction) ? decision(prediction, version) : ranking(prediction));
  }

  details() {
    const { version, prediction: { model, profile, image, domain, time, history, id } } = this;
    return make("details", {}, make("summary", {}, "Details"), terms([
      ["Model", version === null ? `${model.name}, version ${model.version} (retired)` : make("button", { type: "button", class: "link", on: { click: () => showCard(model.name, model.version) } },
        `${this.modelName} (${model.name}), version ${model.version}`)],
      ["Image check", domainText(domain)],
      ["Site profile", profile ? profile.name : null],
      ["Image", `${image.format.toUpperCase()}, ${image.width} × ${image.height} pixels`],
      ["Time", time ? localTime(time) : null],
      ["History", history === "unavailable" ? "Not saved: the history is unavailable" : null],
      ["Result ID", id ? make("code", {}, id) : null],
      ["Image SHA-256", make("code", {}, image.sha256)],
      ["Archive SHA-256", model.sha256 ? make("code", {}, model.sha256) : null],
    ]));
  }

  /** The model's warning. For an image unlike the training images the API appends another one, for programmers. */
  get warning() {
    return this.isDoubtful && this.version ? this.version.warning : this.prediction.warning;
  }

  heatMapControl() {
    if (this.prediction.mask || this.version?.explains === false) return null;
    this.heatButton = button("Show heat map", () => this.toggleHeatMap(), { "aria-pressed": "false" });
    this.viewer.toggleOverlay = () => this.heatButton.click();
    return make("div", { class: "heat" }, this.heatButton, make("p", { class: "small" }, "Areas that influenced the result. It does not locate disease."));
  }

  async fill() {
    try {
      const image = await this.loadImage();
      this.viewer.show(image, this.options.repair ? null : this.file);
      this.pictureButton.disabled = false;
      const { input } = this.version ?? {};
      if (input && input.width <= SMALL_INPUT && input.height <= SMALL_INPUT) this.viewer.pair(reduced(image, input));
      if (this.prediction.mask && !this.isDoubtful) await this.addOverlay(toPng(this.prediction.mask.data), "mask");
    } catch (error) {
      show(`${this.name}, picture`, error);
    }
  }

  /** Return the file itself if it is unchanged and the browser can show it with the size of the prediction, else the server's picture. */
  async loadImage() {
    const own = this.options.repair ? null : await this.decode(this.file);
    return own ?? await this.decode(await post(`api/predictions/${this.path}`, this.file, { accept: "image/png;view=image", ...this.options }))
      ?? Promise.reject(new RangeError("the picture has another size than the prediction declares"));
  }

  async decode(blob) {
    const url = URL.createObjectURL(blob);
    const image = make("img", { src: url, alt: this.options.repair ? this.name : `${this.name} as sent` });
    try {
      await image.decode();
      const { width, height } = this.prediction.image;
      if (image.naturalWidth !== width || image.naturalHeight !== height) throw new RangeError("another size");
    } catch {
      URL.revokeObjectURL(url);
      return null;
    }
    this.url = url;
    if (this.isReleased) URL.revokeObjectURL(url);
    return image;
  }

  /** Show the mask of an image unlike the training images only while its output is open. */
  async toggleMask(isOpen) {
    if (!this.prediction.mask) return;
    if (!isOpen) this.viewer.setOverlay(null);
    else if (this.overlay) this.viewer.setOverlay(this.overlay, "mask");
    else await this.addOverlay(toPng(this.prediction.mask.data), "mask");
  }

  async addOverlay(blob, kind) {
    this.overlay = await colourize(blob, kind, this.prediction.image);
    this.heatMap = kind === "heat" ? blob : null;
    await this.checkHeatMap();
    this.viewer.setOverlay(this.overlay, kind === "heat" ? "heat map" : "mask", this.overlayWarning);
    this.downloads.append(button(`${kind === "heat" ? "Heat map" : "Mask"} (PNG)`, () => save(blob, `${this.download}.${kind}.png`)));
  }

  /** Warn of a heat map that is strongest outside the body, as soon as it and the image are there. */
  async checkHeatMap() {
    if (!this.heatMap || !this.viewer.image || acceptsPhotographs(this.version) || !await isStrongestOutside(this.viewer.image, this.heatMap)) return;
    this.overlayWarning = OUTSIDE;
    if (this.viewer.overlay === null) return;
    this.viewer.setOverlay(this.overlay, "heat map", OUTSIDE); // the image came later
    announce(`${this.name}: ${OUTSIDE}`);
  }

  async toggleHeatMap() {
    if (this.overlay) this.viewer.setOverlay(this.viewer.overlay ? null : this.overlay, "heat map", this.overlayWarning);
    else await this.loadHeatMap();
    const isShown = this.viewer.overlay !== null;
    this.heatButton.setAttribute("aria-pressed", String(isShown));
    this.heatButton.textContent = isShown ? "Hide heat map" : "Show heat map";
  }

  async loadHeatMap() {
    this.heatButton.disabled = true;
    this.heatButton.textContent = "Loading heat map …";
    try {
      const explanation = parseExplanation(await post(`api/explanations/${this.path}`, this.fileToSend(), this.options), this.prediction);
      await this.addOverlay(toPng(explanation.data), "heat");
      announce(explanation.empty ? "The heat map is empty: no area influenced the result." : `${this.name}: heat map shown. ${this.overlayWarning ?? ""}`);
    } catch (error) {
      show(`${this.name}, heat map`, error);
    }
    this.heatButton.disabled = false;
  }

  async savePicture() {
    const { model, image } = this.prediction;
    const { overlays } = this.viewer;
    const warnings = [this.warning, overlays.isShown && this.overlayWarning].filter(Boolean);
    const lines = [this.summary, `${this.modelName} (${model.name} ${model.version}). Not a medical device.`, ...warnings];
    const blob = await captioned(this.viewer.image, image, (...size) => overlays.paint(...size), lines);
    save(blob, `${this.download}.${overlays.isShown ? "overlay" : "picture"}.png`);
  }

  /** The result in one line, with what limits it. */
  get summary() {
    const { repair } = this.prediction;
    const change = repair ? `Image ${repairText(repair)}: ` : "";
    return `${change}${this.verdict.text}${this.isDoubtful || isUncertain(this.prediction) ? "" : this.measure}`;
  }

  get measure() {
    const { area, probability, probabilities } = this.prediction;
    if (area) return area.pixels ? `, ${percent(area.fraction)} of the image` : "";
    const positive = positiveLabel(this.prediction);
    const text = positive ? `probability of ${positive} ${percent(probabilities[positive])}` : `probability ${percent(probability)}`;
    return `, ${text}${atPrevalence(this.prediction)}`;
  }

  /** Release the image. */
  release() {
    this.isReleased = true; // the image may still be loading
    this.viewer.close();
    if (this.url) URL.revokeObjectURL(this.url);
  }

  /** Release the image, and delete its upload. */
  close() {
    this.release();
    if (this.options.object) discardUpload(this.options.object);
  }
}

function reduced(image, input) {
  return make("figure", { class: "reduced" }, reduce(image, input),
    make("figcaption", { class: "small" }, `Reduced to ${input.width} × ${input.height}: roughly what the model sees.`));
}

function areaTerms({ area, threshold }) {
  return make("div", {}, terms([
    ["Marked", `${percent(area.fraction)} of the image`],
    ["Area", area.mm2 === undefined || area.mm2 === null ? `${counted(area.pixels, "pixel")} (pixel spacing not in file)` : `${area.mm2.toFixed(0)} mm²`],
  ]), make("p", { class: "small" }, `Marks pixels with a probability of ${cutoff(threshold)} or more.`));
}
