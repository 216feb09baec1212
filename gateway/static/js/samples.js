// Synthetic sample images of models.

import { get } from "./api.js";
import { digest } from "./prediction.js";

const files = new WeakSet(); // the samples among the files that were analysed
const blobs = new Map(); // "name version" -> promise of the image

/** Return a promise of the sample of a model version; it is rejected if the model has none. */
export function sampleImage(name, version) {
  const key = `${name} ${version}`;
  if (!blobs.has(key)) {
    const blob = get(`api/models/${name}/${version}/sample`, "image/png").then((response) => response.blob());
    blob.catch(() => blobs.delete(key)); // the next request may succeed
    blobs.set(key, blob);
  }
  return blobs.get(key);
}

/** Return a promise of the sample as a file to analyse. */
export async function sampleFile(name, version) {
  const file = new File([await sampleImage(name, version)], `${name}-sample.png`, { type: "image/png" });
  files.add(file);
  return file;
}

/** Mark a file as the sample of a model version if that has the checksum. */
export async function markSample(file, { name, version }, sha256) {
  const image = await sampleImage(name, version).catch(() => null);
  if (image !== null && await digest(image) === sha256) files.add(file);
}

/** Whether a file is the synthetic sample of a model, which is never rejected. */
export const isSample = (file) => files.has(file);

/** Show the sample of a model version in a frame; the frame stays empty if the model has none. */
export function fillThumbnail(frame, name, version) {
  frame.dataset.sample = `${name} ${version}`;
  sampleImage(name, version).then((blob) => {
    if (frame.dataset.sample !== `${name} ${version}`) return; // another model was chosen meanwhile
    const image = document.createElement("img");
    image.src = URL.createObjectURL(blob);
    image.alt = "";
    image.onload = () => URL.revokeObjectURL(image.src);
    frame.replaceChildren(image);
  }, () => {});
}
