// Overlay of a viewer: a heat map, or a mask as outline or area; its legend, opacity, and a way to hide it.

import { MASK } from "./colour_map.js";
import { contour } from "./contour.js";
import { button, make, svg } from "./dom.js";
import { legend } from "./legend.js";

const COLOUR = `rgb(${MASK.join(" ")})`;
const LINE = 2; // pixels of the screen
const PIXELS_PER_LINE = 512; // of the shorter side of a saved picture, for each pixel of the line's width
let views = 0;

/** Overlay on a `sheet`, the element with the image; `element` has its controls, `finding` names what a mask marks. */
export class OverlayView {
  constructor(sheet, finding) {
    views += 1;
    Object.assign(this, { sheet, finding, canvas: null, line: null, path: "", isMask: false, isOutline: true, isHidden: false });
    this.slider = make("input", { type: "range", min: 0, max: 100, value: 40, id: `opacity-${views}` });
    this.slider.addEventListener("input", () => this.draw());
    this.legend = make("div", { class: "legend-place" });
    this.note = make("p", { class: "overlay-note", hidden: true });
    this.opacity = make("div", { class: "opacity" }, this.label = make("label", { for: this.slider.id }), this.slider);
    this.styles = [["Outline", true], ["Area", false]].map(([text, isOutline]) => button(text, () => this.setStyle(isOutline)));
    this.hider = button("Hide mask", () => this.toggle());
    this.maskTools = make("div", { class: "mask-tools", role: "group", "aria-label": "Mask" }, this.styles, this.hider);
    this.element = make("div", { class: "overlay-tools", hidden: true }, this.note, this.maskTools, this.legend, this.opacity);
  }

  /** Show a canvas, `name` is "heat map" or "mask", or nothing (null); `warning` is a sentence about it. Style and visibility stay. */
  set(canvas, name = "", warning = null) {
    this.canvas?.remove();
    this.line?.remove();
    Object.assign(this, { canvas, line: null, path: "", isMask: name === "mask" });
    this.element.hidden = canvas === null;
    if (canvas === null) return;
    this.label.textContent = `Opacity of the ${name}`;
    this.note.textContent = warning ?? "";
    this.note.hidden = warning === null;
    canvas.classList.add("overlay");
    this.sheet.append(canvas);
    if (this.isMask) this.addLine();
    this.draw();
  }

  addLine() {
    const { width, height } = this.canvas;
    this.path = contour(markedPixels(this.canvas), width, height);
    const line = svg("path", { d: this.path, "vector-effect": "non-scaling-stroke" });
    Object.assign(line.style, { fill: "none", stroke: COLOUR, strokeWidth: `${LINE}px`, strokeLinecap: "square" });
    this.line = svg("svg", { class: "contour", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, line);
    this.sheet.append(this.line);
  }

  /** Show a mask as outline or as area. */
  setStyle(isOutline) {
    this.isOutline = isOutline;
    this.isHidden = false;
    this.draw();
  }

  /** Hide or show what is over the image. */
  toggle() {
    this.isHidden = !this.isHidden;
    this.draw();
  }

  /** Whether something is drawn over the image. */
  get isShown() {
    return this.canvas !== null && !(this.isMask && this.isHidden);
  }

  get isLine() {
    return this.isMask && this.isOutline;
  }

  draw() {
    if (this.canvas === null) return;
    const alpha = this.isShown && !this.isLine ? this.slider.value / 100 : 0;
    this.canvas.style.opacity = String(alpha);
    this.line?.classList.toggle("hidden", !this.isShown || !this.isLine);
    this.maskTools.hidden = !this.isMask;
    this.opacity.hidden = this.isLine;
    this.hider.textContent = this.isHidden ? "Show mask" : "Hide mask";
    this.styles.forEach((control, index) => control.setAttribute("aria-pressed", String(this.isOutline === (index === 0))));
    this.slider.setAttribute("aria-valuetext", `${this.slider.value} percent`);
    this.legend.replaceChildren(legend(this.isMask ? "mask" : "heat map", { isOutline: this.isOutline, finding: this.finding }));
  }

  /** Draw what is shown on a picture of a size. */
  paint(context, width, height) {
    if (!this.isShown) return;
    if (this.isLine) {
      const path = new Path2D();
      path.addPath(new Path2D(this.path), new DOMMatrix().scale(width / this.canvas.width, height / this.canvas.height));
      Object.assign(context, { strokeStyle: COLOUR, lineCap: "square", lineWidth: Math.max(LINE, Math.min(width, height) / PIXELS_PER_LINE) });
      context.stroke(path);
      return;
    }
    context.globalAlpha = this.slider.value / 100;
    context.drawImage(this.canvas, 0, 0, width, height);
    context.globalAlpha = 1;
  }
}

/** Return 0 for each transparent pixel of a canvas. */
function markedPixels(canvas) {
  const { data } = canvas.getContext("2d", { willReadFrequently: true }).getImageData(0, 0, canvas.width, canvas.height);
  return Uint8Array.from({ length: data.length / 4 }, (_, at) => data[4 * at + 3]);
}
