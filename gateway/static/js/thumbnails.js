// Small pictures of files, made one at a time and only for rows in view.

import { isDicom } from "./dicom_header.js";
import { make } from "./dom.js";
import { drawn } from "./series_pictures.js";

const SIZE = 96; // pixels of the longer side
const MAX_KEPT = 400;
const MAX_BYTES = 64e6; // of a file that is read for its picture

/** Pictures of rows; `load(row)` returns a promise of a Blob that browsers can show, for repaired images and files that they cannot show, or null. */
export class Thumbnails {
  constructor(load) {
    this.load = load;
    this.frames = new Map();
    this.queue = [];
    this.isBusy = false;
  }

  /** Return the frame of a row; it is filled later, if the row is still in view. */
  of(row) {
    let frame = this.frames.get(row.id);
    if (!frame) {
      const [, type = ""] = /\.([a-z0-9]{2,4})$/i.exec(row.file.name) ?? [];
      frame = make("span", { class: "batch-thumb", "aria-hidden": "true", "data-type": type.toUpperCase() });
      this.frames.set(row.id, frame);
      if (this.frames.size > MAX_KEPT) this.frames.delete(this.frames.keys().next().value);
    }
    if (frame.childElementCount === 0 && !this.queue.some((entry) => entry.frame === frame)) {
      this.queue.push({ row, frame });
      this.work();
    }
    return frame;
  }

  /** Forget all pictures. */
  clear() {
    this.frames.clear();
    this.queue = [];
  }

  async work() {
    if (this.isBusy) return;
    this.isBusy = true;
    await new Promise(requestAnimationFrame); // until the frames are in the page
    while (this.queue.length) {
      const { row, frame } = this.queue.pop(); // the newest is the one in view
      if (!frame.isConnected) continue;
      const canvas = await this.draw(row);
      if (canvas) frame.replaceChildren(canvas);
    }
    this.isBusy = false;
  }

  draw(row) {
    const loaded = async () => decode(await this.load(row));
    return reduced(() => (row.model.repair ? loaded() : decode(row.file).catch(loaded)));
  }
}

/** Decode and reduce a picture, off the main thread. */
const decode = (source) => createImageBitmap(source, { resizeWidth: SIZE, resizeQuality: "medium" }); // the height follows

/** Return a small picture; null if it cannot be decoded. */
async function reduced(load) {
  try {
    const bitmap = await load();
    const scale = SIZE / Math.max(bitmap.width, bitmap.height);
    const canvas = make("canvas", { width: Math.max(1, Math.round(bitmap.width * scale)), height: Math.max(1, Math.round(bitmap.height * scale)) });
    canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    return canvas;
  } catch {
    return null; // the frame names the type of the file
  }
}

const files = new WeakMap(); // of frames
let last = Promise.resolve();

const visible = new IntersectionObserver((entries) => {
  for (const { target } of entries.filter(({ isIntersecting }) => isIntersecting)) {
    visible.unobserve(target);
    last = last.then(() => fill(target));
  }
});

/** Return a frame for the picture of a file, which is made when the frame is in view, one at a time; without a picture it takes no space. */
export function thumbnailOf(file) {
  const frame = make("span", { "aria-hidden": "true" });
  files.set(frame, file);
  visible.observe(frame);
  return frame;
}

async function fill(frame) {
  if (!frame.isConnected) return;
  const canvas = await reduced(() => pictureOf(files.get(frame)));
  if (canvas === null) return;
  frame.className = "batch-thumb";
  frame.append(canvas);
}

async function pictureOf(file) {
  if (file.size > MAX_BYTES) throw new RangeError("too large");
  return decode(isDicom(await file.slice(0, 140).arrayBuffer()) ? await drawn(file) : file);
}
