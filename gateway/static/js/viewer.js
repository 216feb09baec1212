// Image viewer: overlay with opacity, zoom, and panning by mouse, touch or keyboard.

import { button, make } from "./dom.js";

const MAX_ZOOM = 8;
const STEP = 1.4;
const MAX_FIT = 20; // screen pixels per image pixel
let viewers = 0;

/**
 * Viewer of an image with a given size and name; `element` is to be inserted into the page.
 *
 * `stage` is the frame that has the focus, `image` and `overlay` are what it shows.
 */
export class Viewer {
  constructor({ width, height }, name) {
    this.width = width;
    this.height = height;
    this.image = null;
    this.zoom = 1;
    this.overlay = null;
    this.sheet = make("div", { class: "sheet" });
    this.stage = make("div", {
      class: "stage", tabindex: "0", role: "region", "aria-label": `Image ${name}: plus and minus zoom, arrow keys move`,
    }, this.sheet);
    this.level = make("output", { class: "level" }, "100%");
    this.slider = make("input", { type: "range", min: 0, max: 100, value: 55, id: `opacity-${viewers += 1}` });
    this.opacityRow = make("div", { class: "opacity", hidden: true },
      this.opacityLabel = make("label", { for: this.slider.id }, "Opacity"), this.slider);
    this.stages = make("div", { class: "stages" }, this.stage);
    this.element = make("div", { class: "viewer" }, this.stages, make("div", { class: "tools" },
      this.opacityRow,
      make("div", { class: "zoom", role: "group", "aria-label": "Zoom" },
        button("−", () => this.zoomTo(this.zoom / STEP), { "aria-label": "Zoom out", class: "button square" }),
        this.level,
        button("+", () => this.zoomTo(this.zoom * STEP), { "aria-label": "Zoom in", class: "button square" }),
        button("Fit", () => this.zoomTo(1), { "aria-label": "Fit the image to the frame" }))));
    this.slider.addEventListener("input", () => this.applyOpacity());
    this.stage.addEventListener("keydown", (event) => this.onKey(event));
    this.stage.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    this.stage.addEventListener("pointerdown", (event) => this.onDrag(event));
    this.observer = new ResizeObserver(() => this.fit());
    this.observer.observe(this.stage);
  }

  /**
   * Show an image (img or canvas), in place of the one before; zoom, window and overlay stay.
   *
   * `file` is the unchanged file that the image shows: a DICOM file has the values for windowing.
   */
  show(image, file = null) {
    this.image?.remove();
    this.image = image;
    this.width = image.naturalWidth ?? image.width;
    this.height = image.naturalHeight ?? image.height;
    this.sheet.classList.toggle("coarse", Math.max(this.width, this.height) <= 128);
    image.classList.add("picture");
    image.draggable = false;
    this.sheet.prepend(image);
    this.fit();
  }

  /** Show something beside the image. */
  pair(element) {
    this.stages.classList.add("paired");
    this.stages.append(element);
  }

  /** Show an overlay, `name` is "heat map" or "mask", or none (null). */
  setOverlay(canvas, name = "") {
    this.overlay?.remove();
    this.overlay = canvas;
    this.opacityRow.hidden = canvas === null;
    if (canvas === null) return;
    this.opacityLabel.textContent = `Opacity of the ${name}`;
    canvas.classList.add("overlay");
    this.sheet.append(canvas);
    this.applyOpacity();
  }

  get opacity() {
    return Number(this.slider.value) / 100;
  }

  applyOpacity() {
    if (this.overlay) this.overlay.style.opacity = String(this.opacity);
    this.slider.setAttribute("aria-valuetext", `${this.slider.value} percent`);
  }

  fit() {
    const { clientWidth, clientHeight } = this.stage;
    if (!clientWidth || !clientHeight) return;
    const fitting = Math.min(clientWidth / this.width, clientHeight / this.height, MAX_FIT);
    this.sheet.style.width = `${Math.floor(this.width * fitting * this.zoom)}px`;
    this.sheet.style.height = `${Math.floor(this.height * fitting * this.zoom)}px`;
    this.level.textContent = `${Math.round(100 * this.zoom)}%`;
  }

  /** Zoom around a point of the stage, by default its centre. */
  zoomTo(level, x = this.stage.clientWidth / 2, y = this.stage.clientHeight / 2) {
    const zoom = Math.min(MAX_ZOOM, Math.max(1, level));
    const ratio = zoom / this.zoom;
    const left = (this.stage.scrollLeft + x) * ratio - x;
    const top = (this.stage.scrollTop + y) * ratio - y;
    this.zoom = zoom;
    this.fit();
    this.stage.scrollTo(left, top);
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "+" || event.key === "=") this.zoomTo(this.zoom * STEP);
    else if (event.key === "-") this.zoomTo(this.zoom / STEP);
    else if (event.key === "0") this.zoomTo(1);
    else return;
    event.preventDefault();
  }

  onWheel(event) {
    // Without Ctrl, which a touchpad pinch sets too, the wheel scrolls the page.
    if (!event.ctrlKey) return;
    event.preventDefault();
    const box = this.stage.getBoundingClientRect();
    this.zoomTo(this.zoom * Math.exp(-event.deltaY / 200), event.clientX - box.left, event.clientY - box.top);
  }

  onDrag(start) {
    if (start.pointerType !== "mouse" || start.button !== 0 || this.zoom === 1) return;
    const { scrollLeft, scrollTop } = this.stage;
    const move = (event) => this.stage.scrollTo(scrollLeft - event.clientX + start.clientX, scrollTop - event.clientY + start.clientY);
    const end = () => {
      this.stage.removeEventListener("pointermove", move);
      this.stage.classList.remove("dragging");
    };
    this.stage.setPointerCapture(start.pointerId);
    this.stage.classList.add("dragging");
    this.stage.addEventListener("pointermove", move);
    this.stage.addEventListener("pointerup", end, { once: true });
    this.stage.addEventListener("pointercancel", end, { once: true });
  }

  /** Release the observer. */
  close() {
    this.observer.disconnect();
  }
}
