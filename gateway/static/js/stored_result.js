// Results from the history: loads what is stored, and shows it on the card of a result.

import { Problem, get, post } from "./api.js";
import { archiveVersion, findVersion, hasSameProfile, knownModel } from "./catalog.js";
import { isDoubtful } from "./domain.js";
import { make } from "./dom.js";
import { imageName } from "./history_row.js";
import { toPng } from "./pictures.js";
import { checkCatalog, checkStored } from "./prediction.js";
import { isUnsent, markSent, recall, remember } from "./recent_files.js";
import { show } from "./rejections.js";
import { Result } from "./result.js";
import { markSample } from "./samples.js";
import { drawn } from "./series_pictures.js";
import { connect } from "./service.js";

/** What replaces a viewer without anything to show. */
export const NO_PICTURE = "No picture: the server did not keep this image.";

const EXTENSIONS = { "image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "application/dicom": ".dcm" };

/**
 * Load a stored result: its `entry`, and the `prediction`, null if an older release stored the result.
 *
 * `version` is the catalog entry of the archive that answered, null if it is not served any more; `file` has the image,
 * no bytes if it is not kept; `heatMap` is a PNG or null.
 */
export async function loadStored(id) {
  const entry = await (await get(`api/results/${id}`)).json();
  const [file, overlay] = await Promise.all([loadImageFile(entry), entry.overlay ? loadOverlay(id) : null]);
  const prediction = entry.prediction ? storedDocument(entry, overlay === null ? null : await toBase64(overlay)) : null;
  const described = prediction ?? { model: { name: entry.model, version: entry.version, sha256: entry.sha256 } };
  const served = await findVersion(described, connect);
  const version = archiveVersion(entry) === null ? null : served;
  if (prediction && version) checkCatalog(prediction, version);
  const shown = file ?? new File([], entry.filename || imageName(entry));
  if (version && isDoubtful({ status: entry.domain })) await markSample(shown, described.model, entry.image_sha256);
  return { entry, prediction, version, file: shown, heatMap: entry.overlay === "heat_map" ? overlay : null };
}

/** Return the image of an entry: the kept one, or that of a recent file; null without one. */
export const loadImageFile = (entry) => (entry.has_image ? loadFile(entry) : recall(entry.image_sha256, entry.filename));

async function loadFile(entry) {
  const blob = await absent(get(`api/results/${entry.id}/image`, "*/*").then((response) => response.blob()));
  if (blob !== null) markSent(entry.image_sha256);
  const name = entry.filename || `${imageName(entry)}${EXTENSIONS[blob?.type] ?? ""}`;
  return blob === null ? null : new File([blob], name);
}

/** Return the mask or heat map of a result as a PNG; null if it was deleted meanwhile. */
export const loadOverlay = (id) => absent(get(`api/results/${id}/overlay`, "image/png").then((response) => response.blob()));

/** Return null for what was deleted meanwhile. */
const absent = (loading) => loading.catch((error) => {
  if (error.status === 404) return null;
  throw error;
});

/** Return the document as the model server sent it; its mask is null without the `data` of the stored one, in base64. */
export function storedDocument(entry, data = null) {
  const { prediction, id, time, filename } = entry;
  const document = { ...prediction, id, time, ...(filename ? { filename } : {}) };
  delete document.explanation;
  if ("mask" in document) document.mask = data === null ? null : { ...document.mask, data };
  checkStored(document, entry);
  return document;
}

async function toBase64(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

/** Return what the request of a stored prediction stated, for further requests about its image. */
export function statedIn({ assurances, repair }) {
  const { prevalence = "", ...others } = assurances ?? {};
  return { assurances: Object.entries(others).map(([name, value]) => `${name}=${value}`).join(", "), prevalence: String(prevalence), repair: repair ?? "" };
}

/** Card of a stored result from `loadStored`. An image that is not kept can be joined later. */
export class StoredResult extends Result {
  constructor({ prediction, version, file, heatMap }) {
    super(file, prediction, version, statedIn(prediction), null);
    this.storedHeatMap = heatMap;
    this.placeholder = make("p", { class: "placeholder" }, NO_PICTURE);
    this.viewer.element.before(this.placeholder);
    this.placeViewer();
    this.onImage = () => {};
    this.filled.then(() => (heatMap ? this.toggleHeatMap() : null));
    this.updateHeatButton();
  }

  /** Whether this is one frame of a file with several, of which the server draws none. */
  get isFrame() {
    return Boolean(this.prediction.image.frame);
  }

  get hasImage() {
    return this.file.size > 0;
  }

  /** Whether a mask or heat map can be shown without the image. */
  get hasOverlay() {
    return Boolean(this.storedHeatMap || (this.prediction.mask && this.prediction.positive && !this.isDoubtful));
  }

  /** Show the viewer, or while there is nothing to view a note in its place. */
  placeViewer() {
    this.viewer.element.hidden = !this.hasImage && !this.hasOverlay;
    this.placeholder.hidden = !this.viewer.element.hidden;
  }

  get hasDicom() {
    return super.hasDicom && !this.isFrame && this.hasImage && this.version !== null && hasSameProfile(this.version, this.prediction);
  }

  /** Show the image of a file with the checksum of the result. */
  async join(file) {
    if (!this.hasImage) {
      this.file = new File([file], this.file.name);
      this.addDicomButton();
    }
    remember(this.prediction.image.sha256, file, { isSent: false });
    this.updateHeatButton();
    this.placeViewer();
    this.onImage();
    const image = await this.loadImage();
    this.viewer.element.classList.remove("no-image");
    this.viewer.show(image, this.options.repair ? null : this.file);
    this.pictureButton.disabled = false;
  }

  /** Return the file; a request of the user sends it, so the server may show it from now on. */
  fileToSend() {
    markSent(this.prediction.image.sha256);
    this.updateSendingNote();
    return this.file;
  }

  /** Without the image, or if it cannot be shown, show the mask alone. */
  fill() {
    this.filled = this.hasImage ? super.fill().then(() => (this.viewer.image ? null : this.fillWithoutImage())) : this.fillWithoutImage();
    return this.filled;
  }

  async fillWithoutImage() {
    this.viewer.element.classList.add("no-image");
    const { mask } = this.prediction;
    if (mask && !this.isDoubtful) await this.addOverlay(toPng(mask.data), "mask").catch((error) => show(`${this.name}, mask`, error));
  }

  /** The version that answered may not be served any more; any other one of the model can show the image. */
  async loadImage() {
    if (this.isFrame || isUnsent(this.prediction.image.sha256)) return this.drawImage();
    if (this.version !== null) return super.loadImage();
    const image = this.options.repair ? null : await this.decode(this.file);
    if (image) return image;
    const { name } = this.prediction.model;
    if (knownModel(name) === null) throw new Problem("This browser cannot show the image's format, and the model that could convert it is retired.", { canRetry: false });
    return await this.decode(await post(`api/predictions/${name}`, this.file, { accept: "image/png;view=image", ...this.options }))
      ?? Promise.reject(new RangeError("the picture has another size than the prediction declares"));
  }

  /** Draw a file that was added to be seen, without sending it. */
  async drawImage() {
    if (this.options.repair) throw new Problem(`This image was changed before it was analysed. Only the server can repeat that; ${this.isFrame ? "it draws no single frame" : "the file was not sent to it"}.`, { canRetry: false });
    const image = await this.decode(this.file) ?? await drawn(this.file, this.prediction.image);
    if (image === null) throw new Problem(`This browser cannot show this file.${this.isFrame ? "" : " It was not sent to the server."}`, { canRetry: false });
    if (image.tagName === "CANVAS") image.setAttribute("aria-label", this.name);
    return image;
  }

  heatMapControl() {
    const control = this.isFrame || "mask" in this.prediction ? null : super.heatMapControl();
    control?.append(make("p", { class: "small" }, "Showing it sends the image to the server."));
    return control;
  }

  /** A heat map that is not stored is computed by the version that answered, from the image. */
  updateHeatButton() {
    if (!this.heatButton) return;
    this.heatButton.parentElement.hidden = !this.storedHeatMap && (!this.hasImage || this.version === null);
    this.updateSendingNote();
  }

  updateSendingNote() {
    if (this.heatButton) this.heatButton.parentElement.lastChild.hidden = Boolean(this.storedHeatMap) || !this.hasImage || !isUnsent(this.prediction.image.sha256);
  }

  async loadHeatMap() {
    if (this.storedHeatMap) await this.addOverlay(this.storedHeatMap, "heat").catch((error) => show(`${this.name}, heat map`, error));
    else await super.loadHeatMap();
  }
}
