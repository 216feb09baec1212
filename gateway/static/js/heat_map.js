// Checks where a heat map is strongest: outside the body, the result rests on something else than the patient.

import { make } from "./dom.js";

export const SIDE = 128; // pixels of the reduced pictures
// Part of the range of gray levels that may be air or an empty margin. On 40 chest films of children and 100 MRI slices it left the
// centre to the body except for 0 and 4 % of its pixels (dark brains); 0.3 took 9 % of the latter.
const DARK = 0.2;
const BODY = 0.02; // smallest part of the picture that is body; letters and side markers are smaller
const PEAK = 0.95; // of the maximum

/**
 * Return whether the strongest part of a heat map lies outside the body; both are gray levels of `side` x `side` pixels.
 *
 * Outside is what is dark and connected with the border, and small bright things in it. Dark areas that the body encloses, such
 * as lungs, are inside; a picture with a bright background has no outside.
 */
export function isPeakOutside(picture, heat, side = SIDE) {
  const top = heat.reduce((most, value) => Math.max(most, value), 0);
  if (top === 0) return false;
  const outside = background(picture, side);
  let [peak, out] = [0, 0];
  for (let at = 0; at < heat.length; at += 1) {
    if (heat[at] < PEAK * top) continue;
    peak += 1;
    out += outside[at];
  }
  return out > peak / 2;
}

/** Mark with 1 the pixels that are not the body. */
export function background(picture, side = SIDE) {
  const sorted = Uint8Array.from(picture).sort();
  const [dark, bright] = [sorted[Math.floor(sorted.length / 100)], sorted[Math.floor(sorted.length * 0.99)]];
  const limit = dark + DARK * (bright - dark);
  const body = new Uint8Array(picture.length);
  const visited = new Uint8Array(picture.length);
  for (let at = 0; at < picture.length; at += 1) {
    if (visited[at] || picture[at] <= limit) continue;
    const component = fill([at], side, (index) => picture[index] > limit, visited);
    if (component.length >= BODY * picture.length) for (const index of component) body[index] = 1;
  }
  const outside = new Uint8Array(picture.length);
  fill(border(side).filter((index) => !body[index]), side, (index) => !body[index], outside);
  return outside;
}

function border(side) {
  return Array.from({ length: side }, (_, at) => [at, at + side * (side - 1), at * side, at * side + side - 1]).flat();
}

/** Return the pixels that are connected with the first ones, and mark them in `visited`. */
function fill(start, side, belongs, visited) {
  const pixels = [];
  const add = (index) => {
    if (visited[index] || !belongs(index)) return;
    visited[index] = 1;
    pixels.push(index);
  };
  start.forEach(add);
  for (let at = 0; at < pixels.length; at += 1) {
    const index = pixels[at];
    const column = index % side;
    if (column > 0) add(index - 1);
    if (column < side - 1) add(index + 1);
    if (index >= side) add(index - side);
    if (index < side * (side - 1)) add(index + side);
  }
  return pixels;
}

/** Return the reduced gray levels of an image. */
function reduced(image) {
  const context = make("canvas", { width: SIDE, height: SIDE }).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, SIDE, SIDE);
  const { data } = context.getImageData(0, 0, SIDE, SIDE);
  return Uint8Array.from({ length: SIDE * SIDE }, (_, at) => Math.round((data[4 * at] + data[4 * at + 1] + data[4 * at + 2]) / 3));
}

/** Return whether a heat map (a gray PNG) is strongest outside the body that an image shows. */
export async function isStrongestOutside(image, blob) {
  const bitmap = await createImageBitmap(blob);
  const heat = reduced(bitmap);
  bitmap.close();
  return isPeakOutside(reduced(image), heat);
}
