// Mouse, touch, wheel and keys of a viewer.

const STEP = 1.4;
const NUDGE = 0.05; // share of the frame by which a key changes the window

/** Let pointers and keys move, zoom and window a viewer. */
export function installGestures(viewer) {
  const { stage } = viewer;
  new Pointers(viewer);
  stage.addEventListener("keydown", (event) => onKey(event, viewer));
  stage.addEventListener("wheel", (event) => onWheel(event, viewer), { passive: false });
  if (viewer.windowing) stage.addEventListener("contextmenu", (event) => event.preventDefault()); // its button drags
}

function onKey(event, viewer) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const windowing = viewer.windowing?.element.hidden ? null : viewer.windowing;
  const keys = {
    "+": () => viewer.zoomTo(viewer.zoom * STEP),
    "=": () => viewer.zoomTo(viewer.zoom * STEP),
    "-": () => viewer.zoomTo(viewer.zoom / STEP),
    0: () => viewer.zoomTo(1),
    1: () => viewer.zoomTo(viewer.actualSize),
    h: () => viewer.toggleOverlay(),
  };
  const windowKeys = {
    i: () => windowing.invert(),
    r: () => windowing.reset(),
    w: () => viewer.setTool(viewer.tool === "window" ? "move" : "window"),
  };
  const arrows = { ArrowLeft: [-NUDGE, 0], ArrowRight: [NUDGE, 0], ArrowUp: [0, -NUDGE], ArrowDown: [0, NUDGE] };
  const act = windowing && event.shiftKey && arrows[event.key]
    ? () => windowing.drag(...arrows[event.key])
    : keys[event.key.toLowerCase()] ?? (windowing ? windowKeys[event.key.toLowerCase()] : undefined);
  if (!act) return;
  act();
  event.preventDefault();
}

function onWheel(event, viewer) {
  // Without Ctrl, which a touchpad pinch sets too, the wheel scrolls the page.
  if (!event.ctrlKey) return;
  event.preventDefault();
  const { left, top } = viewer.stage.getBoundingClientRect();
  viewer.zoomTo(viewer.zoom * Math.exp(-event.deltaY / 200), event.clientX - left, event.clientY - top);
}

/** Follows the pointers on the stage: one drags with the tool, two pinch. */
class Pointers {
  constructor(viewer) {
    this.viewer = viewer;
    this.points = new Map(); // position of each pointer that is down
    const { stage } = viewer;
    stage.addEventListener("pointerdown", (event) => this.onDown(event));
    stage.addEventListener("pointermove", (event) => this.onMove(event));
    for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, (event) => this.onUp(event));
    // Two fingers pinch; without this the browser may take them for scrolling.
    stage.addEventListener("touchmove", (event) => event.touches.length > 1 && event.preventDefault(), { passive: false });
  }

  onDown(event) {
    const { stage, tool, windowing } = this.viewer;
    if (event.button === 1 || (event.button === 2 && (!windowing || windowing.element.hidden))) return;
    this.tool = event.button === 2 && tool === "move" ? "window" : event.button === 2 ? "move" : tool;
    this.points.set(event.pointerId, { x: event.clientX, y: event.clientY });
    stage.setPointerCapture(event.pointerId);
    if (event.pointerType === "mouse" && (this.tool === "window" || this.viewer.zoom !== 1)) stage.classList.add("dragging");
  }

  onMove(event) {
    const before = this.points.get(event.pointerId);
    if (!before) return;
    const after = { x: event.clientX, y: event.clientY };
    if (this.points.size === 2) this.pinch(event.pointerId, before, after);
    else if (this.points.size === 1) this.drag(after.x - before.x, after.y - before.y);
    this.points.set(event.pointerId, after);
  }

  drag(right, down) {
    const { stage, windowing } = this.viewer;
    if (this.tool === "window") windowing.drag(right / stage.clientWidth, down / stage.clientHeight);
    else stage.scrollBy(-right, -down);
  }

  /** One of two fingers moved: zoom around their centre, which moves the image. */
  pinch(id, before, after) {
    const { viewer } = this;
    const [, other] = [...this.points].find(([pointer]) => pointer !== id);
    const distance = ({ x, y }) => Math.max(1, Math.hypot(x - other.x, y - other.y));
    const { left, top } = viewer.stage.getBoundingClientRect();
    viewer.zoomTo(viewer.zoom * (distance(after) / distance(before)), (after.x + other.x) / 2 - left, (after.y + other.y) / 2 - top);
    viewer.stage.scrollBy((before.x - after.x) / 2, (before.y - after.y) / 2);
  }

  onUp(event) {
    this.points.delete(event.pointerId);
    if (this.points.size === 0) this.viewer.stage.classList.remove("dragging");
  }
}
