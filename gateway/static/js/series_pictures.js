// Pictures of the slices of one examination, loaded when they are shown and shortly before.

import { post } from "./api.js";
import { parseColours, parseValues } from "./dicom_values.js";
import { make } from "./dom.js";
import { distribution, extent, levels, paint, windowBetween } from "./window_level.js";

const AHEAD = 4; // slices on either side
const PARALLEL = 3;
const MAX_LOADED = 64; // pictures that are kept
const PAUSE = 3_000; // milliseconds until a picture is requested again
const REJECTED = 422;

/** Loads pictures; `path` and `options` are of requests for those that the browser cannot decode. */
export class SlicePictures {
  constructor(files, outcomes, path, options) {
    Object.assign(this, { files, outcomes, path, options });
    this.loaded = new Map(); // index -> image element, null without one
    this.running = new Set();
    this.wanted = [];
    this.isClosed = false;
    this.onLoad = () => {};
  }

  /** Return the picture of a slice: null if there is none, undefined until `onLoad(index)` is called. */
  get(index) {
    // Slices that the reader has scrolled past are not loaded any more.
    this.wanted = Array.from({ length: 2 * AHEAD + 1 }, (_, at) => index + (at % 2 ? 1 : -1) * Math.ceil(at / 2));
    this.next();
    return this.loaded.get(index);
  }

  next() {
    this.wanted = this.wanted.filter((index) => index in this.files && !this.loaded.has(index) && !this.running.has(index));
    while (this.running.size < PARALLEL && this.wanted.length) this.start(this.wanted.shift());
  }

  async start(index) {
    this.running.add(index);
    try {
      this.loaded.set(index, await this.fetch(index));
    } catch (error) {
      if (!error.canRetry) this.loaded.set(index, null);
    }
    this.running.delete(index);
    if (this.isClosed) return;
    this.evict(index);
    this.next();
    setTimeout(() => this.isClosed || this.onLoad(index), this.loaded.has(index) ? 0 : PAUSE); // which requests it again if it is still shown
  }

  /** Forget the picture that is farthest from the one shown, if there are many. */
  evict(shown) {
    if (this.loaded.size <= MAX_LOADED) return;
    this.loaded.delete([...this.loaded.keys()].reduce((one, other) => (Math.abs(other - shown) > Math.abs(one - shown) ? other : one)));
  }

  async fetch(index) {
    const size = this.outcomes[index].prediction?.image ?? null;
    const file = this.files[index];
    return await this.decode(file, size) ?? (size === null ? null : await this.request(file, size)) ?? await drawn(file, size) ?? (size?.frame ? undrawn(size) : null);
  }

  /** Return the server's picture; null if it rejects the slice, which alone may be unlike the training images. */
  async request(file, size) {
    if (size.frame) return null; // it draws no single frame
    try {
      return await this.decode(await post(`api/predictions/${this.path}`, file, { ...this.options, accept: "image/png;view=image" }), size);
    } catch (error) {
      if (error.status === REJECTED) return null;
      throw error;
    }
  }

  async decode(blob, size) {
    const url = URL.createObjectURL(blob);
    const image = make("img", { src: url, alt: "" });
    try {
      await image.decode();
      if (size && (image.naturalWidth !== size.width || image.naturalHeight !== size.height)) throw new RangeError("another size");
      return image;
    } catch {
      return null;
    } finally {
      URL.revokeObjectURL(url); // the image is in memory
    }
  }

  /** Release the pictures. */
  close() {
    this.isClosed = true;
    this.wanted = [];
    this.loaded.clear();
  }
}

/** Return an empty picture of a frame that cannot be drawn here, on which its mask is shown. */
const undrawn = ({ width, height }) => make("canvas", { width, height, role: "img", "data-undrawn": true });

/** Draw the stored values of a file in its own window, else in one chosen here, or its colours; null if they cannot be read here, or have another `size`. */
export async function drawn(file, size = null) {
  const buffer = await file.arrayBuffer().catch(() => new ArrayBuffer(0));
  const stored = parseValues(buffer, size?.frame ?? null);
  const picture = stored ? painted(stored) : parseColours(buffer, size?.frame ?? null);
  if (!picture || (size && (picture.width !== size.width || picture.height !== size.height))) return null;
  const { width, height, pixels } = picture;
  const canvas = make("canvas", { width, height, role: "img", ...(stored && !stored.window ? { "data-window": "chosen" } : {}) });
  canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
  return canvas;
}

/** Return the gray levels of stored values as a picture; null if a table maps them. */
function painted(stored) {
  if (stored.hasTable) return null;
  const { values, width, height } = stored;
  const [first, last] = extent(values);
  const sorted = distribution(stored);
  const window = stored.window ?? windowBetween(sorted[0], sorted[Math.floor(0.995 * (sorted.length - 1))]);
  const pixels = new Uint8ClampedArray(4 * width * height);
  paint({ ...stored, first }, levels({ ...stored, first, last }, window, false), pixels);
  return { width, height, pixels };
}
