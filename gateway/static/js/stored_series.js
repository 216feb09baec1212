// Images that were sent together, opened again together, slices as one series: in the order in which they were sent, with strip and volume.

import { get, Problem } from "./api.js";
import { archiveVersion, findVersion, hasSameProfile } from "./catalog.js";
import { make } from "./dom.js";
import { localTime } from "./format.js";
import { imageName } from "./history_row.js";
import { inParallel, patiently } from "./parallel.js";
import { checkCatalog } from "./prediction.js";
import { isUnsent, markSent, recentName, remember } from "./recent_files.js";
import { drawn, SlicePictures } from "./series_pictures.js";
import { SeriesResult } from "./series_view.js";
import { connect } from "./service.js";
import { loadImageFile, loadOverlay, statedIn, storedDocument } from "./stored_result.js";

const PAGE = 200;
const GONE = { problem: new Problem("This image was rejected, or its result is deleted.", { canRetry: false }), absence: "rejected or deleted" };
const DELETED = { problem: new Problem("The result of this slice is deleted.", { canRetry: false }), absence: "deleted" };

/**
 * Load the results of a group: an outcome for each image that was sent, with its `entry`; pictures and masks are loaded
 * when they are shown. `prediction` and `entry` are those of the first result, `listed` has all entries. Throws a Problem.
 */
export async function loadSeries(groupId, signal) {
  const listed = await loadEntries(groupId, signal);
  const load = async ({ id }) => (await get(`api/results/${id}`, undefined, "GET", signal)).json();
  const entries = (await inParallel(listed, (item) => patiently(() => load(item), signal))).filter(({ prediction }) => prediction);
  if (entries.length === 0) throw new Problem("These results do not exist, or you may not view them.", { status: 404, canRetry: false });
  const { group_size: length, volume } = entries[0];
  const absent = typeof volume?.ml === "number" ? DELETED : GONE; // a volume is measured only if no slice is rejected
  const outcomes = Array.from({ length }, () => absent);
  for (const entry of entries) outcomes[entry.group_index] = { prediction: storedDocument(entry), entry };
  const { prediction, entry } = outcomes.find((outcome) => outcome.prediction);
  const served = await findVersion(prediction, connect);
  const version = archiveVersion(entry) === null ? null : served;
  if (version) for (const outcome of outcomes) if (outcome.prediction) checkCatalog(outcome.prediction, version);
  return { listed, outcomes, version, volume: entry.volume, time: entry.time, prediction, entry };
}

async function loadEntries(groupId, signal) {
  const parameters = new URLSearchParams({ group: groupId, limit: PAGE });
  const entries = [];
  for (;;) {
    const { results, next } = await (await get(`api/results?${parameters}`, undefined, "GET", signal)).json();
    entries.push(...results);
    if (next === null) return entries;
    parameters.set("cursor", next);
  }
}

/** Pictures of stored images, of which some or all may not be kept. */
class StoredPictures extends SlicePictures {
  async fetch(index) {
    const { entry, prediction } = this.outcomes[index];
    if (!entry) return null;
    const file = await patiently(() => loadImageFile(entry), this.signal);
    if (file === null) return blank(prediction.image);
    this.items[index].file = file;
    this.files[index] = file;
    return !isUnsent(entry.image_sha256) ? super.fetch(index) : await this.decode(file, prediction.image) ?? await drawn(file, prediction.image) ?? blank(prediction.image);
  }
}

/** Return the entries whose files to send: one with several frames, some of which may be rejected, is sent once. */
export function filesOf(entries) {
  if (!entries.some((entry) => entry?.prediction.image.frame)) return entries;
  return [...Map.groupBy(entries.filter(Boolean), (entry) => entry.image_sha256).values()].map(([first]) => first);
}

const isAtHand = (entry) => entry.has_image || recentName(entry.image_sha256) !== "";

/** Return an empty picture, on which a mask can be shown. */
function blank({ width, height }) {
  return make("canvas", { width, height, role: "img", "data-blank": true });
}

/** Card of a series from `loadSeries`. */
export class StoredSeries extends SeriesResult {
  constructor({ outcomes, version, volume, time, prediction }) {
    const items = outcomes.map(({ entry }, index) => {
      const name = entry ? imageName(entry) : `Image ${index + 1}`;
      return { file: new File([], name), path: name, header: null };
    });
    const thing = "mask" in prediction ? "slice" : "image"; // pictures that are classified may be of several patients
    super(`${thing === "slice" ? "Series" : "Images"} of ${localTime(time)}`, stackOf(items, thing), { outcomes, volume, isSaved: true }, version, statedIn(prediction));
  }

  /** Checksums of the images that neither the server nor this browser has. */
  get missing() {
    return this.outcomes.flatMap(({ entry }) => (entry && !isAtHand(entry) ? entry.image_sha256 : []));
  }

  get loadFiles() {
    const all = this.outcomes.map(({ entry }) => entry);
    const entries = filesOf(all);
    if (this.version === null || !hasSameProfile(this.version, this.first) || !entries.every((entry) => entry && isAtHand(entry))) return null;
    return async () => {
      const files = await inParallel(entries, (entry) => patiently(() => loadImageFile(entry), this.controller.signal));
      if (files.includes(null)) throw new Problem("The image of a slice was deleted meanwhile.", { canRetry: false });
      const isNew = entries.map((entry) => markSent(entry.image_sha256)).includes(true);
      if (isNew) this.reload();
      return files;
    };
  }

  /** Load the pictures again. */
  reload() {
    this.pictures.loaded.clear();
    this.show(this.strip.index);
  }

  /** Show the images of files, by checksum. */
  join(files) {
    for (const [sha256, file] of files) remember(sha256, file, { isSent: false });
    this.reload();
    if (this.missing.length === 0) this.addDicomButton();
  }

  openPictures(files, path, options) {
    const pictures = new StoredPictures(files, this.outcomes, path, options);
    this.controller = new AbortController();
    return Object.assign(pictures, { items: this.stack.items, signal: this.controller.signal });
  }

  async loadMask(index) {
    const { entry } = this.outcomes[index];
    return entry.overlay ? patiently(() => loadOverlay(entry.id), this.controller.signal) : null;
  }

  close() {
    this.controller.abort();
    super.close();
  }

  noteText(index, picture) {
    const { entry, problem } = this.outcomes[index];
    if (!entry) return problem.message;
    const mask = this.isMask && entry.positive && !entry.overlay ? " The mask was not kept either." : "";
    const isBlank = picture && "blank" in picture.dataset;
    if (isBlank && isUnsent(entry.image_sha256) && isAtHand(entry)) return `This browser cannot show this file. It was not sent to the server.${mask}`;
    if (isBlank) return `The image was not kept.${mask}`;
    if (picture?.tagName === "CANVAS" && isUnsent(entry.image_sha256)) return "Drawn by this page from the file.";
    return super.noteText(index, picture);
  }
}

/** Return a stack of images in the order in which they were sent: nothing else of it is kept. */
function stackOf(items, thing) {
  return {
    kind: "stored", thing, order: "sent", items, places: null, distance: null, extent: items.map(() => null), gaps: [], duplicates: [],
    fault: null, isParallel: true, isIrregular: false,
  };
}
