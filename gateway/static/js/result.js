// The card of one answered file.

import { positiveLabel, readExplanation } from "./answer.js";
import { post } from "./api.js";
import { decision, ranking } from "./bars.js";
import { button, make, save, say, terms } from "./dom.js";
import { card as modelCard } from "./models.js";
import { file as png, paint, picture, small } from "./paint.js";
import { show } from "./refusals.js";
import { Viewer } from "./viewer.js";
import { moment, percent, stem } from "./words.js";

const FEW = 64;

/** A card for an answer that was read by `answer.read`; `version` is what the catalog says of it, or null. */
export class Result {
  constructor(file, answer, version) {
    this.file = file;
    this.answer = answer;
    this.name = file.name;
    this.version = version;
    this.path = `${answer.model.name}/${answer.model.version}`;
    this.overlay = null;
    this.map = null;
    this.viewer = new Viewer(answer.image, this.name);
    this.downloads = make("div", { class: "row" },
      this.pictureButton = button("Picture (PNG)", () => this.savePicture(), { disabled: true }),
      button("Answer (JSON)", () => save(new Blob([JSON.stringify(answer, null, 2)], { type: "application/json" }), `${stem(this.name)}.json`)));
    this.heatButton = null;
    this.beside = make("div", { class: "beside", hidden: true });
    this.element = this.draw();
    this.ready = this.fill();
  }

  draw() {
    const { answer } = this;
    const heading = make("h3", { tabindex: "-1" }, this.name);
    const facts = make("div", { class: "facts" },
      answer.warning ? make("p", { class: "warning" }, make("strong", {}, "Warning: "), answer.warning) : null,
      make("p", { class: "small" }, answer.mask ? "Finding" : "Answer"),
      make("p", { class: `label ${answer.positive === false ? "" : "marked"}` }, answer.label),
      answer.mask ? area(answer) : positiveLabel(answer) ? decision(answer) : ranking(answer),
      this.explainable(),
      this.beside,
      terms([
        ["Model", make("button", { type: "button", class: "link", on: { click: () => modelCard(answer.model.name, answer.model.version) } },
          `${answer.model.name} ${answer.model.version}`)],
        ["Image", `${answer.image.format.toUpperCase()}, ${answer.image.width} × ${answer.image.height}`],
        ["Time", answer.time ? moment(answer.time) : null],
        ["History", answer.history === "unavailable" ? "Not recorded: the history cannot be reached" : null],
      ]),
      make("details", {}, make("summary", {}, "Identifiers"), terms([
        ["Answer", answer.id ? make("code", {}, answer.id) : null],
        ["Image sha256", make("code", {}, answer.image.sha256)],
        ["Archive sha256", answer.model.sha256 ? make("code", {}, answer.model.sha256) : null],
      ])),
      make("div", { class: "keep" }, make("p", { class: "small" }, "Download"), this.downloads));
    return make("li", { class: "panel result" }, make("div", { class: "result-head" }, heading), make("div", { class: "result-body" }, this.viewer.element, facts));
  }

  explainable() {
    if (this.answer.mask || this.version?.explains === false) return null;
    this.heatButton = button("Show heat map", () => this.heat(), { "aria-pressed": "false" });
    return make("div", { class: "heat" }, this.heatButton, make("p", { class: "small" }, "What the model looked at, not where a disease is."));
  }

  async fill() {
    try {
      const image = await this.load();
      this.viewer.show(image);
      this.pictureButton.disabled = false;
      const { input } = this.version ?? {};
      if (input && input.width <= FEW && input.height <= FEW) {
        this.beside.append(make("figure", {}, small(image, input),
          make("figcaption", { class: "small" }, `In ${input.width} × ${input.height} pixels, about as the network sees it.`)));
        this.beside.hidden = false;
      }
      if (this.answer.mask) await this.lay(png(this.answer.mask.data), "mask");
    } catch (error) {
      show(`${this.name}, its picture`, error);
    }
  }

  /** The image: the browser's own where it can show the file as the answer describes it, else the server's. */
  async load() {
    return await this.tried(this.file) ?? await this.tried(await post(`api/predictions/${this.path}`, this.file, { accept: "image/png;view=image" }))
      ?? Promise.reject(new RangeError("the picture has another size than the answer"));
  }

  async tried(blob) {
    const url = URL.createObjectURL(blob);
    const image = make("img", { src: url, alt: `${this.name} as it was sent` });
    try {
      await image.decode();
      const { width, height } = this.answer.image;
      if (image.naturalWidth !== width || image.naturalHeight !== height) throw new RangeError("another size");
    } catch {
      URL.revokeObjectURL(url);
      return null;
    }
    this.url = url;
    return image;
  }

  async lay(blob, kind) {
    const what = kind === "heat" ? "heat map" : "mask";
    this.overlay = await paint(blob, kind, this.answer.image);
    this.viewer.lay(this.overlay, what);
    if (this.map === null) this.downloads.append(button(`${kind === "heat" ? "Heat map" : "Mask"} (PNG)`, () => save(blob, `${stem(this.name)}.${kind}.png`)));
    this.map = blob;
  }

  async heat() {
    const shown = this.viewer.overlay !== null;
    if (shown || this.overlay) {
      this.viewer.lay(shown ? null : this.overlay, "heat map");
    } else {
      this.heatButton.disabled = true;
      this.heatButton.textContent = "Heat map …";
      try {
        const explanation = readExplanation(await post(`api/explanations/${this.path}`, this.file), this.answer);
        await this.lay(png(explanation.data), "heat");
        say(explanation.empty ? "Nothing in the image spoke for the label." : `${this.name}: the heat map is shown.`);
      } catch (error) {
        show(`${this.name}, its heat map`, error);
      }
      this.heatButton.disabled = false;
    }
    const on = this.viewer.overlay !== null;
    this.heatButton.setAttribute("aria-pressed", String(on));
    this.heatButton.textContent = on ? "Hide heat map" : "Show heat map";
  }

  async savePicture() {
    const { model } = this.answer;
    const words = [`${this.said}`, `${model.name} ${model.version}. No medical device.`];
    if (this.answer.warning) words.push(this.answer.warning);
    const blob = await picture(this.viewer.image, this.answer.image, this.viewer.overlay, this.viewer.opacity, words);
    save(blob, `${stem(this.name)}.${this.viewer.overlay ? "overlay" : "picture"}.png`);
  }

  /** The answer in one line. */
  get said() {
    const { label, mask, area: { fraction } = {}, probability } = this.answer;
    return mask ? `${label}, ${percent(fraction)} of the image marked` : `${label}, probability ${percent(probability)}`;
  }

  /** Let go of the image. */
  close() {
    this.viewer.close();
    if (this.url) URL.revokeObjectURL(this.url);
  }
}

function area({ area: found, threshold }) {
  return terms([
    ["Marked", `${percent(found.fraction)} of the image`],
    ["Area", found.mm2 === undefined ? `${found.pixels} pixels (size of a pixel unknown)` : `${found.mm2.toFixed(0)} mm²`],
    ["Threshold", `${percent(threshold)} for each pixel`],
  ]);
}
