// Image viewer: image with window, overlay, zoom, and panning by mouse, touch or keyboard.

import { button, make } from "./dom.js";
import { OverlayView } from "./overlay_view.js";
import { installGestures } from "./viewer_gestures.js";
import { Windowing } from "./windowing.js";

const MAX_ZOOM = 8;
const STEP = 1.4;
const MAX_FIT = 20; // screen pixels per image pixel

/**
 * Viewer of an image with a given size and name; `element` is to be inserted into the page.
 *
 * `stage` is the frame that has the focus, `image` and `overlay` are what it shows; `onImage` is called with each image. `windows` is false for
 * photographs, `isDicom` says whether the file names a window, `finding` names what a mask marks, `overlayName` what is shown over the image: "mask", "heat map", or nothing.
 */
export class Viewer {
  constructor({ width, height }, name, { windows = true, isDicom = false, finding = null, overlayName = "" } = {}) {
    this.width = width;
    this.height = height;
    this.image = null;
    this.onImage = () => {};
    this.zoom = 1;
    this.scale = 1; // screen pixels per image pixel at zoom 1
    this.windowing = windows ? new Windowing(name, isDicom) : null;
    this.sheet = make("div", { class: "sheet" }, this.windowing?.canvas);
    this.stage = make("div", { class: "stage", tabindex: "0", role: "region", "aria-label": `Image ${name}: ${help(windows, overlayName)}` }, this.sheet);
    this.stages = make("div", { class: "stages" }, this.stage);
    this.overlays = new OverlayView(this.sheet, finding);
    this.element = make("div", { class: "viewer" }, this.stages,
      this.toolbar = make("div", { class: "tools" }, this.tools(), this.zoomControls()), this.windowing?.element, this.overlays.element);
    installGestures(this);
    this.setTool("move");
    for (const event of ["pointerenter", "focusin"]) this.element.addEventListener(event, () => this.image && this.windowing?.prepare());
    for (const event of ["pointerleave", "focusout"]) this.element.addEventListener(event, () => this.windowing?.rest());
    this.observer = new ResizeObserver(() => this.fit());
    this.observer.observe(this.stage);
  }

  /** What a drag does: two buttons, one of them pressed. */
  tools() {
    if (!this.windowing) return null;
    this.toolButtons = [["move", "Move"], ["window", "Window"]].map(([tool, text]) =>
      button(text, () => this.setTool(tool), { "data-tool": tool, "aria-label": `${text} by dragging` }));
    return make("div", { class: "drag-tools", role: "group", "aria-label": "Drag to" }, make("span", { class: "small", "aria-hidden": "true" }, "Drag to"), this.toolButtons);
  }

  zoomControls() {
    this.level = make("output", { class: "level" }, "100%");
    return make("div", { class: "zoom", role: "group", "aria-label": "Zoom" },
      button("−", () => this.zoomTo(this.zoom / STEP), { "aria-label": "Zoom out", class: "button square" }),
      this.level,
      button("+", () => this.zoomTo(this.zoom * STEP), { "aria-label": "Zoom in", class: "button square" }),
      button("Fit", () => this.zoomTo(1), { "aria-label": "Fit the image to the frame" }),
      button("1:1", () => this.zoomTo(this.actualSize), { "aria-label": "1:1, one pixel of the image on one of the screen" }));
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
    this.windowing?.load(image, file);
    this.fit();
    this.onImage();
  }

  /** Hide what changes the view of an image if there is none, only an overlay. */
  setBare(isBare) {
    this.toolbar.hidden = isBare;
    if (this.windowing) this.windowing.element.hidden = isBare;
  }

  /** Show something beside the image. */
  pair(element) {
    this.stages.classList.add("paired");
    this.stages.append(element);
  }

  /** What is over the image: a canvas, or null. */
  get overlay() {
    return this.overlays.canvas;
  }

  /** Show an overlay, `name` is "heat map" or "mask", or none (null); `warning` is a sentence about it. */
  setOverlay(canvas, name = "", warning = null) {
    this.overlays.set(canvas, name, warning);
  }

  /** Hide or show the overlay; results with a heat map replace this. */
  toggleOverlay() {
    this.overlays.toggle();
  }

  /** Let a drag move the image ("move") or change its window ("window"). */
  setTool(tool) {
    this.tool = tool;
    this.stage.classList.toggle("window-tool", tool === "window");
    for (const control of this.toolButtons ?? []) control.setAttribute("aria-pressed", String(control.dataset.tool === tool));
  }

  fit() {
    const { clientWidth, clientHeight } = this.stage;
    if (!clientWidth || !clientHeight) return;
    this.scale = Math.min(clientWidth / this.width, clientHeight / this.height, MAX_FIT);
    this.sheet.style.width = `${Math.floor(this.width * this.scale * this.zoom)}px`;
    this.sheet.style.height = `${Math.floor(this.height * this.scale * this.zoom)}px`;
    this.stage.classList.toggle("zoomed", this.zoom > 1);
    this.level.textContent = this.zoom === this.actualSize ? "1:1" : `${Math.round(100 * this.zoom)}%`;
  }

  /** Zoom at which one pixel of the image is one of the screen. */
  get actualSize() {
    return 1 / (this.scale * window.devicePixelRatio);
  }

  /** Zoom around a point of the stage, by default its centre. */
  zoomTo(level, x = this.stage.clientWidth / 2, y = this.stage.clientHeight / 2) {
    const { actualSize } = this;
    const zoom = Math.min(Math.max(MAX_ZOOM, actualSize), Math.max(Math.min(1, actualSize), level));
    const ratio = zoom / this.zoom;
    const left = (this.stage.scrollLeft + x) * ratio - x;
    const top = (this.stage.scrollTop + y) * ratio - y;
    this.zoom = zoom;
    this.fit();
    this.stage.scrollTo(left, top);
  }

  /** Release the observer. */
  close() {
    this.observer.disconnect();
  }
}

function help(windows, overlayName) {
  return ["plus and minus zoom, 0 fits, 1 shows actual size, arrow keys move",
    windows ? "Shift and arrow keys change the window, I inverts it, R resets it" : "",
    overlayName ? `H hides and shows the ${overlayName}` : ""].filter(Boolean).join(", ");
}
