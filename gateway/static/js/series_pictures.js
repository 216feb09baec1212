// Pictures of the slices of one examination, loaded when they are shown and shortly before.

import { post } from "./api.js";
import { make } from "./dom.js";

const AHEAD = 3; // slices on either side
const PARALLEL = 2;

/** Loads pictures; `path` and `options` are of requests for those that the browser cannot decode. */
export class SlicePictures {
  constructor(files, outcomes, path, options) {
    Object.assign(this, { files, outcomes, path, options });
    this.loading = new Map(); // index -> promise of an image element, or null
    this.urls = [];
    this.wanted = [];
    this.running = 0;
  }

  /** Return a promise of the picture of a slice, null if there is none; its neighbours are loaded next. */
  async load(index) {
    const picture = this.start(index);
    const near = Array.from({ length: 2 * AHEAD }, (_, at) => index + (at % 2 ? -1 : 1) * (Math.floor(at / 2) + 1));
    this.wanted = near.filter((other) => other in this.files && !this.loading.has(other));
    this.next();
    return picture;
  }

  next() {
    while (this.running < PARALLEL && this.wanted.length) {
      this.running += 1;
      this.start(this.wanted.shift()).finally(() => {
        this.running -= 1;
        this.next();
      });
    }
  }

  start(index) {
    if (!this.loading.has(index)) this.loading.set(index, this.fetch(index));
    return this.loading.get(index);
  }

  async fetch(index) {
    const size = this.outcomes[index].prediction?.image ?? null;
    const own = await this.decode(this.files[index], size);
    if (own || size === null) return own; // the server shows no picture of an image that it rejects
    try {
      return await this.decode(await post(`api/predictions/${this.path}`, this.files[index], { ...this.options, accept: "image/png;view=image" }), size);
    } catch {
      return null; // such as a slice that is unlike the training images: alone, the server rejects it
    }
  }

  async decode(blob, size) {
    const url = URL.createObjectURL(blob);
    const image = make("img", { src: url, alt: "" });
    try {
      await image.decode();
      if (size && (image.naturalWidth !== size.width || image.naturalHeight !== size.height)) throw new RangeError("another size");
    } catch {
      URL.revokeObjectURL(url);
      return null;
    }
    this.urls.push(url);
    return image;
  }

  /** Release the pictures. */
  close() {
    this.wanted = [];
    for (const url of this.urls) URL.revokeObjectURL(url);
  }
}
