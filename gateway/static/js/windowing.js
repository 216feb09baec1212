// Window, level and inversion of a viewer: controls, and the canvas over the image. The model never gets what they show.

import { parseValues } from "./dicom_values.js";
import { button, make } from "./dom.js";
import { dragged, grainOf, IDENTITY, levels, paint, presets, reach, rounded, sourceOf } from "./window_level.js";

const MAX_PIXELS = 16_000_000; // of a canvas in all browsers
const QUICK_PIXELS = 1_500_000; // drawn while the window changes
const REST = 150; // milliseconds
const SHOWN = 400; // milliseconds that an image must be shown until its values are read: a reader scrolls through many slices
const IDLE = 30_000; // milliseconds until the values of an unchanged view are forgotten: a film has some 70 MB
const OWN = "own";
const CUSTOM = "custom";
const ROOMY = "(min-width: 701px)"; // on phones the controls would push the result off the screen
let count = 0;

/** Controls of the window of an image, which may be a DICOM file; `canvas` covers the image that `load` names, unless it is shown unchanged. */
export class Windowing {
  constructor(name, isDicom = false) {
    count += 1;
    this.ownName = isDicom ? "Window of the file" : "Image as sent";
    this.remark = `Changes the view only: the model always gets the ${isDicom ? "window of the file" : "image as sent"}.`;
    this.canvas = make("canvas", { class: "adjusted", "aria-hidden": "true", hidden: true });
    this.window = null; // of units; null is that of the image as sent
    this.isInverted = false;
    this.preset = make("select", { id: `window-${count}` });
    this.level = make("input", { type: "number", step: "any", id: `level-${count}` });
    this.width = make("input", { type: "number", step: "any", min: 1, id: `width-${count}` });
    this.inversion = button("Invert", () => this.invert(), { "aria-pressed": "false" });
    this.note = make("p", { class: "small" }, this.remark);
    this.fields = make("div", { class: "fields" }, field("Window", this.preset), field("Level", this.level), field("Width", this.width), this.inversion);
    this.details = make("details", { open: matchMedia(ROOMY).matches, on: { toggle: () => this.readSoon() } }, make("summary", {}, "Window (brightness and contrast)"), this.fields, this.note);
    this.element = make("div", { class: "windowing", role: "group", "aria-label": `Window of ${name}` }, this.details);
    this.preset.addEventListener("change", () => this.choose(this.preset.value));
    for (const input of [this.level, this.width]) input.addEventListener("change", () => this.type());
    this.setOptions([]);
  }

  /** Adjust another image, of a file that may have stored values; the window stays. */
  load(image, file) {
    [this.image, this.file] = [image, file];
    this.preparation = null;
    this.sources = null;
    this.canvas.hidden = true; // it shows the image before this one
    if (this.window !== null || this.isInverted) this.refresh();
    this.readSoon();
  }

  /** Read the values to show the window of the file, if its controls are open. */
  readSoon() {
    clearTimeout(this.reading);
    this.reading = setTimeout(async () => {
      if (!this.image || !this.details.open || !this.element.checkVisibility()) return;
      await this.prepare();
      this.rest();
    }, SHOWN);
  }

  /** Read the values once they are needed: files are large, and few are adjusted. */
  prepare() {
    const { image } = this;
    clearTimeout(this.idle);
    this.preparation ??= read(image, this.file).then((sources) => {
      if (image !== this.image) return; // replaced meanwhile
      const isOther = this.source && this.source.unit !== sources.main.unit;
      this.sources = sources;
      this.source = sources.main;
      if (isOther) this.window = null;
      this.setOptions(presets(this.source));
      this.note.textContent = `${this.remark} ${sourceText(this.source)}`;
      this.showNumbers();
    }).catch((error) => {
      if (!(error instanceof RangeError)) throw error;
      this.canvas.hidden = this.isFixed = true;
      for (const control of this.fields.querySelectorAll("select, input, button")) control.disabled = true;
      this.note.textContent = "This image is too large to adjust its window here.";
    });
    return this.preparation;
  }

  /** Forget the values soon, if the view is unchanged. */
  rest() {
    clearTimeout(this.idle);
    this.idle = setTimeout(() => this.release(), IDLE);
  }

  release() {
    const isUsed = this.element.closest(".viewer")?.matches(":hover, :focus-within") ?? false;
    if (!this.sources || this.window !== null || this.isInverted || isUsed) return;
    this.source = { ...this.source, values: null };
    this.preparation = this.sources = null;
  }

  setOptions(choices) {
    this.choices = choices;
    const option = ({ id, name }) => make("option", { value: id }, name);
    this.preset.replaceChildren(option({ id: OWN, name: this.image?.dataset.window ? "Window of this page" : this.ownName }), ...choices.map(option), make("option", { value: CUSTOM, hidden: true }, "Custom"));
    this.preset.value = this.window === null ? OWN : CUSTOM;
  }

  async choose(id) {
    await this.prepare();
    this.set(this.choices.find((choice) => choice.id === id)?.window ?? null, id);
  }

  async type() {
    await this.prepare();
    const [level, width] = [this.level.valueAsNumber, this.width.valueAsNumber];
    if (Number.isFinite(level) && width >= grainOf(this.source)) this.set({ level, width });
    else this.showNumbers();
  }

  /** Change the window by shares of the frame. */
  drag(right, down) {
    if (!this.sources) {
      this.prepare();
      return;
    }
    const isUpBrighter = (this.source.isInverse ?? false) === this.isInverted;
    this.set(dragged(this.window ?? this.source.own, right, isUpBrighter ? down : -down, this.source.reach, grainOf(this.source)));
  }

  async invert() {
    await this.prepare();
    if (this.isFixed) return;
    this.isInverted = !this.isInverted;
    this.inversion.setAttribute("aria-pressed", String(this.isInverted));
    this.refresh();
  }

  reset() {
    if (this.isInverted) this.invert();
    this.set(null, OWN);
  }

  set(window, id = CUSTOM) {
    this.window = window;
    this.preset.value = id;
    this.showNumbers();
    this.refresh();
  }

  showNumbers() {
    if (!this.source) return;
    const { level, width } = this.window ?? this.source.own;
    const grain = grainOf(this.source);
    this.width.min = grain;
    [this.level.value, this.width.value] = [rounded(level, grain), rounded(width, grain)];
  }

  /** Draw with the next frame, however often the window changes before it: large images in less detail until it rests. */
  async refresh() {
    await this.prepare();
    clearTimeout(this.detail);
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      if (!this.sources) return;
      const { width, height } = this.source;
      const stride = Math.ceil(Math.sqrt((width * height) / QUICK_PIXELS));
      this.draw(stride);
      if (stride > 1) this.detail = setTimeout(() => this.sources && this.draw(), REST);
    });
  }

  draw(stride = 1) {
    this.canvas.hidden = this.window === null && !this.isInverted;
    if (this.canvas.hidden) return;
    // The window of the image as sent is that of the server's picture, exactly.
    const source = this.window === null ? this.sources.picture : this.source;
    const pixels = new ImageData(Math.ceil(source.width / stride), Math.ceil(source.height / stride));
    paint(source, levels(source, this.window ?? IDENTITY, this.isInverted), pixels.data, stride);
    const { canvas } = this;
    if (canvas.width !== pixels.width || canvas.height !== pixels.height) [canvas.width, canvas.height] = [pixels.width, pixels.height];
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  }
}

function field(name, input) {
  return make("div", { class: "field-small" }, make("label", { for: input.id }, name), input);
}

function sourceText({ unit }) {
  if (unit === "picture") return "Other windows are computed from the 256 gray levels of the picture.";
  return unit === "CT" ? "Other windows are computed from the file's stored values, in Hounsfield units." : "Other windows are computed from the file's stored values.";
}

/** Return the sources of gray levels: the picture, and as `main` the stored values of the file that it shows, if they can be read. */
async function read(image, file) {
  const [width, height] = [image.naturalWidth ?? image.width, image.naturalHeight ?? image.height];
  if (width * height > MAX_PIXELS) throw new RangeError("too large");
  const context = make("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const { data: values } = context.getImageData(0, 0, width, height);
  const picture = { values, width, height, step: 4, first: 0, last: 255, unit: "picture", own: IDENTITY };
  const buffer = await file?.arrayBuffer().catch(() => null); // the file may be gone
  const stored = buffer ? parseValues(buffer) : null;
  const isSameSize = stored?.width === width && stored.height === height;
  const source = isSameSize ? sourceOf(stored, values) : null;
  const main = source ? { ...source, unit: source.isHounsfield ? "CT" : "stored" } : picture;
  main.reach = reach(main);
  return { picture, main };
}
