// Heat maps and masks in colour, and pictures to keep.

import { make } from "./dom.js";

const LONGEST = 2048;
const MARK = [255, 0, 255];
const STOPS = [[48, 18, 120], [38, 110, 230], [32, 200, 190], [150, 230, 70], [250, 190, 50], [225, 60, 20]];

/** The PNG file inside an answer. */
export function file(encoded) {
  return new Blob([Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0))], { type: "image/png" });
}

/** Colours for a heat map, from nothing (clear) to the most relevant place. */
function heatColour(value) {
  const place = (value / 255) * (STOPS.length - 1);
  const left = Math.min(Math.floor(place), STOPS.length - 2);
  const share = place - left;
  const colour = STOPS[left].map((part, index) => Math.round(part + (STOPS[left + 1][index] - part) * share));
  return [...colour, Math.min(255, Math.round(value * 1.6))];
}

const maskColour = (value) => [...MARK, value > 127 ? 255 : 0];

/** Paint a gray PNG in colour, onto a canvas; `kind` is `heat` or `mask`. Throws if its size is not the one announced. */
export async function paint(blob, kind, { width, height }) {
  const bitmap = await createImageBitmap(blob);
  if (bitmap.width !== width || bitmap.height !== height) throw new RangeError("the picture has another size than it says");
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  const canvas = make("canvas", {
    width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)), "aria-hidden": "true",
  });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const table = Array.from({ length: 256 }, (_, value) => (kind === "heat" ? heatColour(value) : maskColour(value)));
  for (let at = 0; at < pixels.data.length; at += 4) pixels.data.set(table[pixels.data[at]], at);
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/**
 * Draw what is shown, in the image's own size, above a line that says what it is.
 *
 * A picture leaves this page and what it says around it: the line goes with it.
 */
export function picture(image, { width, height }, overlay, opacity, words) {
  // Small pictures are enlarged in whole steps, so that the line below can be read.
  const scale = Math.max(1, Math.ceil(480 / Math.max(width, 1)));
  const letter = Math.max(13, Math.round((width * scale) / 60));
  const canvas = make("canvas", { width: width * scale, height: height * scale + Math.round(letter * (1.6 * words.length + 1)) });
  const context = canvas.getContext("2d");
  context.fillStyle = "#000";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = scale === 1;
  context.drawImage(image, 0, 0, width * scale, height * scale);
  if (overlay) {
    context.globalAlpha = opacity;
    context.drawImage(overlay, 0, 0, width * scale, height * scale);
    context.globalAlpha = 1;
  }
  context.fillStyle = "#fff";
  context.font = `${letter}px system-ui, sans-serif`;
  words.forEach((line, index) => {
    context.fillText(line, letter, height * scale + letter * (1.6 * index + 1.7), canvas.width - 2 * letter);
  });
  return new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
}

/** The image in the few pixels that a network sees of it. */
export function small(image, { width, height }) {
  const canvas = make("canvas", { width, height, role: "img", "aria-label": `The image in ${width} by ${height} pixels` });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, width, height);
  return canvas;
}
