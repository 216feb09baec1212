// The page shows what the last drop gave: its first outcome comes into view, and earlier rejections become one line.

import { collapse } from "./rejections.js";

let awaited = null; // the drop whose first outcome has not come yet

/** Wait for the first outcome of files that were dropped or chosen now; return the drop, for `showOutcome`. */
export function expectOutcome() {
  awaited = Symbol("drop");
  collapse();
  return awaited;
}

/** Bring an element into view if it is the first outcome of the last drop. */
export function showOutcome(element, drop) {
  if (awaited === null || drop !== awaited) return;
  awaited = null;
  requestAnimationFrame(() => { // after the file has left the list in progress, which is above the results
    const { top } = element.getBoundingClientRect();
    const isStacked = matchMedia("(max-width: 900px)").matches; // then the panels beside the results are above them
    if (isStacked || top < Number.parseFloat(getComputedStyle(element).scrollMarginTop) || top > innerHeight / 2) element.scrollIntoView();
  });
}
