// Scrolls through slices on a viewer: by wheel, keys, and a finger that moves sideways.

const KEYS = { ArrowUp: -1, ArrowDown: 1, PageUp: -5, PageDown: 5, Home: -Infinity, End: Infinity };
const WHEEL = 40; // pixels of the wheel for one slice
const MIN_SWIPE = 6; // pixels of a finger for one slice

/** Call `go(step)` when the reader scrolls on a viewer of `count` slices. */
export function scrollSlices({ element, stage }, go, count) {
  stage.setAttribute("aria-label", `${stage.getAttribute("aria-label")}; up and down arrows, page up, page down, home and end change the slice`);
  let rolled = 0;
  element.addEventListener("wheel", (event) => {
    if (event.ctrlKey || !stage.contains(event.target)) return; // zooms
    event.preventDefault();
    event.stopPropagation();
    rolled += event.deltaMode === 0 ? event.deltaY : event.deltaY * WHEEL;
    const step = Math.trunc(rolled / WHEEL);
    rolled -= step * WHEEL;
    if (step) go(step);
  }, { passive: false, capture: true });
  element.addEventListener("keydown", (event) => {
    if (event.target !== stage || !(event.key in KEYS) || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    event.preventDefault();
    event.stopPropagation();
    go(KEYS[event.key]);
  }, { capture: true });
  let touch = null;
  stage.addEventListener("touchstart", ({ touches }) => { touch = touches.length === 1 ? touches[0].clientX : null; }, { passive: true });
  stage.addEventListener("touchmove", ({ touches }) => {
    if (touch === null || stage.matches(".zoomed, .window-tool")) return; // the finger moves the image, or its window
    const width = Math.max(MIN_SWIPE, stage.clientWidth / count);
    const step = Math.trunc((touches[0].clientX - touch) / width);
    touch += step * width;
    if (step) go(step);
  }, { passive: true });
}
