// Legend of an overlay: what its colours mean.

import { heatColour, MASK } from "./colour_map.js";
import { make } from "./dom.js";
import { capitalize } from "./format.js";

const STEPS = 64;

/** Return the legend of an overlay by its name: "heat map", or "mask" as outline or area, which marks a `finding` (null if it has no name). */
export function legend(name, { isOutline = false, finding = null } = {}) {
  if (name === "heat map") return heatLegend();
  return make("p", { class: "key small" }, patch(isOutline), finding === null ? "Marked by the model" : `${capitalize(finding)}, as marked by the model`);
}

function heatLegend() {
  const bar = canvas(STEPS, (at) => heatColour(at / (STEPS - 1)));
  bar.setAttribute("role", "img");
  bar.setAttribute("aria-label", "Colours of the heat map: from 0, dark violet, through green to 1, yellow");
  return make("div", { class: "key small" }, bar,
    make("div", { class: "ticks", "aria-hidden": "true" }, make("span", {}, "0"), make("span", {}, "0.5"), make("span", {}, "1")),
    make("p", {}, "Influence on the result; 1 is the strongest in this image."));
}

function patch(isOutline) {
  const colour = `rgb(${MASK.join(" ")})`;
  const square = make("span", { class: "patch", "aria-hidden": "true" });
  Object.assign(square.style, { borderColor: colour, backgroundColor: isOutline ? "transparent" : colour });
  return square;
}

/** Return a row of pixels with the colours of their positions. */
function canvas(width, colour) {
  const element = make("canvas", { width, height: 1 });
  const context = element.getContext("2d");
  for (let at = 0; at < width; at += 1) {
    context.fillStyle = `rgb(${colour(at).join(" ")})`;
    context.fillRect(at, 0, 1, 1);
  }
  return element;
}
