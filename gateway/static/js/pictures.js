// Draws pictures: coloured heat maps and masks, pictures to download, and the reduced image.

import { overlayColours } from "./colour_map.js";
import { make } from "./dom.js";

const MAX_SIZE = 2048;

/** Return the PNG file of a prediction's base64 data. */
export function toPng(base64) {
  return new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], { type: "image/png" });
}

/** Paint a gray PNG in colour; `kind` is `heat` or `mask`. Throws if the PNG does not have the given size. */
export async function colourize(blob, kind, { width, height }) {
  const bitmap = await createImageBitmap(blob);
  if (bitmap.width !== width || bitmap.height !== height) throw new RangeError("the picture has another size than declared");
  const scale = Math.min(1, MAX_SIZE / Math.max(width, height));
  const canvas = make("canvas", {
    width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)), "aria-hidden": "true",
  });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const table = overlayColours(kind);
  for (let at = 0; at < pixels.data.length; at += 4) pixels.data.set(table[pixels.data[at]], at);
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** Return a PNG of the image with a caption, because the picture leaves the page; `paint(context, width, height)` draws its overlay. */
export function captioned(image, { width, height }, paint, lines) {
  const scale = Math.max(1, Math.ceil(480 / Math.max(width, 1))); // small pictures are enlarged to fit the caption
  const letter = Math.max(13, Math.round((width * scale) / 60));
  const canvas = make("canvas", { width: width * scale, height: height * scale + Math.round(letter * (1.6 * lines.length + 1)) });
  const context = canvas.getContext("2d");
  context.fillStyle = "#000";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = scale === 1;
  context.drawImage(image, 0, 0, width * scale, height * scale);
  paint(context, width * scale, height * scale);
  context.fillStyle = "#fff";
  context.font = `${letter}px system-ui, sans-serif`;
  lines.forEach((line, index) => {
    context.fillText(line, letter, height * scale + letter * (1.6 * index + 1.7), canvas.width - 2 * letter);
  });
  return new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
}

/** Reduce the image to the size of the model's input. */
export function reduce(image, { width, height }) {
  const canvas = make("canvas", { width, height, role: "img", "aria-label": `The image in ${width} × ${height} pixels` });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, width, height);
  return canvas;
}
