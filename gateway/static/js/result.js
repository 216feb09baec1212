// Card of one analysed file.

import { post } from "./api.js";
import { domainNote, domainText, isDoubtful, repairedName, repairNote, repairText } from "./domain.js";
import { announce, button, make, save, terms } from "./dom.js";
import { isSample, showCard } from "./models.js";
import { captioned, colourize, reduce, toPng } from "./pictures.js";
import { parseExplanation, positiveLabel } from "./prediction.js";
import { atPrevalence, decision, ranking, uncertainty } from "./probabilities.js";
import { show } from "./rejections.js";
import { scopeTerms } from "./assurances.js";
import { cutoff, isUncertain, labelText, localTime, modelName, percent, stem } from "./format.js";
import { Viewer } from "./viewer.js";

const SMALL_INPUT = 64;

/**
 * Card of a prediction from `parsePrediction`; `version` is the model's catalog entry or null. `assurances` and
 * `prevalence` were sent.
 *
 * `repeat(repair)` analyses the file again with a repair.
 */
export class Result {
  constructor(file, prediction, version, { assurances = "", prevalence = "" } = {}, repeat = () => {}) {
    this.options = { assurances, prevalence, repair: prediction.repair ?? "" }; // of further requests about this image
    this.repeat = repeat;
    this.isDoubtful = isDoubtful(prediction.domain);
    this.file = file;
    this.prediction = prediction;
    this.name = repairedName(file.name, prediction.repair);
    this.version = version;
    this.path = `${prediction.model.name}/${prediction.model.version}`;
    this.label = labelText({ ...prediction, isMask: "mask" in prediction }, version);
    this.overlay = null;
    this.viewer = new Viewer(prediction.image, this.name);
    this.pictureButton = button("Picture (PNG)", () => this.savePicture(), { disabled: true });
    this.downloads = make("div", { class: "row" }, this.pictureButton,
      button("Result (JSON)", () => save(new Blob([JSON.stringify(prediction, null, 2)], { type: "application/json" }), `${stem(this.name)}.json`)));
    this.heatButton = null;
    this.reduced = make("div", { class: "reduced", hidden: true });
    this.element = this.draw();
    this.fill();
  }

  draw() {
    const { model, profile, image, domain, repair, time, history, id } = this.prediction;
    const { warning } = this;
    const facts = make("div", { class: "facts" },
      warning ? make("p", { class: "warning" }, make("strong", {}, "Warning: "), warning) : null,
      repairNote(repair),
      domainNote(domain, repair || isSample(this.file) ? null : this.repeat, isSample(this.file)),
      ...this.output(),
      this.heatMapControl(),
      this.reduced,
      scopeTerms(this.prediction),
      terms([
        ["Model", make("button", { type: "button", class: "link", on: { click: () => showCard(model.name, model.version) } },
          `${modelName(this.version, model.name)}, version ${model.version}`)],
        ["Image check", domainText(domain)],
        ["Site profile", profile ? profile.name : null],
        ["Image", `${image.format.toUpperCase()}, ${image.width} × ${image.height} pixels`],
        ["Time", time ? localTime(time) : null],
        ["History", history === "unavailable" ? "Not saved: the history is unavailable" : null],
      ]),
      make("details", {}, make("summary", {}, "Identifiers"), terms([
        ["Result", id ? make("code", {}, id) : null],
        ["Image SHA-256", make("code", {}, image.sha256)],
        ["Archive SHA-256", model.sha256 ? make("code", {}, model.sha256) : null],
      ])),
      make("div", { class: "download" }, make("p", { class: "small" }, "Download"), this.downloads));
    return make("li", { class: "panel result" }, make("div", { class: "result-head" }, make("h3", { tabindex: "-1" }, this.name)),
      make("div", { class: "result-body" }, this.viewer.element, facts));
  }

  /** What the model says: a finding only if the image is like the training images. */
  output() {
    const { area, positive } = this.prediction;
    if (this.isDoubtful) {
      return [
        make("p", { class: "small" }, "Model output, do not rely on it"),
        make("p", { class: "output" }, this.label),
        area ? areaTerms(this.prediction) : ranking(this.prediction),
      ];
    }
    return [
      make("p", { class: "small" }, "Model output"),
      make("p", { class: `label ${isUncertain(this.prediction) ? "uncertain" : positive === false ? "" : "marked"}` }, this.label),
      uncertainty(this.prediction),
      area ? areaTerms(this.prediction) : positiveLabel(this.prediction) ? decision(this.prediction) : ranking(this.prediction),
    ];
  }

  /** The model's warning. For an image unlike the training images the API appends another one, for programmers. */
  get warning() {
    return this.isDoubtful && this.version ? this.version.warning : this.prediction.warning;
  }

  heatMapControl() {
    if (this.prediction.mask || this.version?.explains === false) return null;
    this.heatButton = button("Show heat map", () => this.toggleHeatMap(), { "aria-pressed": "false" });
    return make("div", { class: "heat" }, this.heatButton, make("p", { class: "small" }, "Areas that influenced the result. It does not locate disease."));
  }

  async fill() {
    try {
      const image = await this.loadImage();
      this.viewer.show(image);
      this.pictureButton.disabled = false;
      const { input } = this.version ?? {};
      if (input && input.width <= SMALL_INPUT && input.height <= SMALL_INPUT) {
        this.reduced.append(make("figure", {}, reduce(image, input),
          make("figcaption", { class: "small" }, `Reduced to ${input.width} × ${input.height}: roughly what the model sees.`)));
        this.reduced.hidden = false;
      }
      if (this.prediction.mask) await this.addOverlay(toPng(this.prediction.mask.data), "mask");
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
    return image;
  }

  async addOverlay(blob, kind) {
    this.overlay = await colourize(blob, kind, this.prediction.image);
    this.viewer.setOverlay(this.overlay, kind === "heat" ? "heat map" : "mask");
    this.downloads.append(button(`${kind === "heat" ? "Heat map" : "Mask"} (PNG)`, () => save(blob, `${stem(this.name)}.${kind}.png`)));
  }

  async toggleHeatMap() {
    if (this.overlay) this.viewer.setOverlay(this.viewer.overlay ? null : this.overlay, "heat map");
    else await this.loadHeatMap();
    const isShown = this.viewer.overlay !== null;
    this.heatButton.setAttribute("aria-pressed", String(isShown));
    this.heatButton.textContent = isShown ? "Hide heat map" : "Show heat map";
  }

  async loadHeatMap() {
    this.heatButton.disabled = true;
    this.heatButton.textContent = "Loading heat map …";
    try {
      const explanation = parseExplanation(await post(`api/explanations/${this.path}`, this.file, this.options), this.prediction);
      await this.addOverlay(toPng(explanation.data), "heat");
      announce(explanation.empty ? "The heat map is empty: no area influenced the result." : `${this.name}: heat map shown.`);
    } catch (error) {
      show(`${this.name}, heat map`, error);
    }
    this.heatButton.disabled = false;
  }

  async savePicture() {
    const { model, image } = this.prediction;
    const { warning } = this;
    const lines = [this.summary, `${model.name} ${model.version}. Not a medical device.`, ...(warning ? [warning] : [])];
    const blob = await captioned(this.viewer.image, image, this.viewer.overlay, this.viewer.opacity, lines);
    save(blob, `${stem(this.name)}.${this.viewer.overlay ? "overlay" : "picture"}.png`);
  }

  /** The result in one line, with what limits it. */
  get summary() {
    const { domain, repair } = this.prediction;
    const limits = [this.isDoubtful ? `${domainText(domain)}. Model output, do not rely on it` : "", repair ? `Image ${repairText(repair)}` : ""];
    return [...limits, this.claim].filter(Boolean).join(": ");
  }

  get claim() {
    const { area, probability } = this.prediction;
    if (area) return area.pixels ? `${this.label}, ${percent(area.fraction)} of the image marked` : this.label;
    if (isUncertain(this.prediction)) return this.label;
    return `${this.label}, probability ${percent(probability)}${atPrevalence(this.prediction)}`;
  }

  /** Release the image. */
  close() {
    this.viewer.close();
    if (this.url) URL.revokeObjectURL(this.url);
  }
}

function areaTerms({ area, threshold }) {
  return make("div", {}, terms([
    ["Marked", `${percent(area.fraction)} of the image`],
    ["Area", area.mm2 === undefined || area.mm2 === null ? `${area.pixels} pixels (pixel spacing not in file)` : `${area.mm2.toFixed(0)} mm²`],
  ]), make("p", { class: "small" }, `Marks pixels with a probability of ${cutoff(threshold)} or more.`));
}
