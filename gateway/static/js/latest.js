// The page shows what the last drop gave: its first outcome comes into view, and earlier rejections become one line.

import { collapse } from "./rejections.js";

const HEADER = 60; // pixels, with some space
let isAwaited = false;

/** Wait for the first outcome of files that were dropped or chosen now. */
export function expectOutcome() {
  isAwaited = true;
  collapse();
}

/** Bring an element into view if it is the first outcome. */
export function showOutcome(element) {
  if (!isAwaited) return;
  isAwaited = false;
  requestAnimationFrame(() => { // after the file has left the list in progress, which is above the results
    const { top } = element.getBoundingClientRect();
    if (top < HEADER || top > innerHeight / 2) element.scrollIntoView();
  });
}
