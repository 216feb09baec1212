// Turns what is dropped, chosen or pasted into files: folders are read, zip files unpacked. The order is kept.

import { Problem } from "./api.js";
import { isArchive, START } from "./file_type.js";
import { listEntries, unpack } from "./zip_reader.js";

/** Limits of one drop: `files` in sum, bytes that zip files unpack to in sum (`unpacked`), and bytes of one file in them (`file`). */
export const LIMITS = { files: 2000, unpacked: 1e9, file: 256e6 };

// What operating systems and DICOM media leave beside images.
const CLUTTER = /(^|\/)(__MACOSX\/.*|\.[^/]*|Thumbs\.db|desktop\.ini|DICOMDIR)$/i;
const byName = new Intl.Collator("en", { numeric: true }).compare;
const paths = new WeakMap();
const problems = new WeakMap();

/** Return the path of a file in what was dropped: "study.zip/front/1.dcm"; its name if it was dropped alone. */
export const pathOf = (file) => paths.get(file) ?? (file.webkitRelativePath || file.name);

/** Return the problem of a file that could not be taken out of a zip file, or of the zip file; null without one. */
export const problemOf = (file) => problems.get(file) ?? null;

/**
 * Return the files of a drop or paste (`DataTransfer`), or of an input (`FileList` or array).
 *
 * A zip file that cannot be unpacked stays in the list; `problemOf` says why. Throws a Problem if nothing can be used.
 * `limits` replaces `LIMITS`.
 */
export async function readIncoming(source, limits = LIMITS) {
  const roots = rootsOf(source); // before anything is awaited: the browser forgets a drop after its event
  if (roots.length === 0) return [];
  const budget = { files: limits.files, unpacked: limits.unpacked, file: limits.file };
  const files = [];
  for (const root of roots) {
    for (const file of root.isDirectory ? await readFolder(root, budget) : [root]) {
      if (file.webkitRelativePath && CLUTTER.test(file.webkitRelativePath)) continue;
      files.push(...await expand(file, budget));
      if (files.length > limits.files) throw tooMany(limits);
    }
  }
  if (files.length === 0) throw problem("There are no images in this folder.");
  return files;
}

const problem = (text) => new Problem(text, { canRetry: false });
const tooMany = ({ files }) => problem(`These are more than ${files} files. Send them in smaller groups.`);

/** Return the files and the entries of folders in a drop. */
function rootsOf(source) {
  if (!source.items) return [...source];
  return [...source.items].filter(({ kind }) => kind === "file").map((item) => {
    const entry = item.webkitGetAsEntry?.();
    return entry?.isDirectory ? entry : item.getAsFile();
  }).filter((root) => root !== null);
}

/** Return the files of a folder and the folders in it, sorted by name, with numbers as numbers. */
async function readFolder(folder, budget) {
  const files = [];
  const entries = await listFolder(folder);
  for (const entry of entries.sort((one, other) => byName(one.name, other.name))) {
    if (CLUTTER.test(entry.fullPath)) continue;
    if (entry.isDirectory) files.push(...await readFolder(entry, budget));
    else files.push(await new Promise((resolve, reject) => { entry.file(resolve, reject); }).catch(unreadable(folder)));
    if (!entry.isDirectory) paths.set(files.at(-1), entry.fullPath.replace(/^\//, ""));
    if (files.length > budget.files) throw tooMany(budget);
  }
  return files;
}

async function listFolder(folder) {
  const reader = folder.createReader();
  const entries = [];
  for (;;) { // a reader returns at most a hundred entries at once
    const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); }).catch(unreadable(folder));
    if (some.length === 0) return entries;
    entries.push(...some);
  }
}

const unreadable = ({ name }) => () => { throw problem(`The folder ${name} cannot be read. Copy it to this computer, then drop it again.`); };

/** Return the files of a zip file, or the file itself. */
async function expand(file, budget) {
  const start = await file.slice(0, START).arrayBuffer().catch(() => new ArrayBuffer(0)); // the analysis says that it cannot be opened
  if (!isArchive(file.name, new Uint8Array(start))) return [file];
  try {
    return await unzip(file, budget);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    problems.set(file, error);
    return [file];
  }
}

async function unzip(file, budget) {
  const entries = (await listEntries(file)).filter(({ path }) => !CLUTTER.test(path));
  if (entries.length === 0) throw problem("There are no images in this zip file.");
  if (entries.length > budget.files) throw problem(`This zip file contains more than ${budget.files} files. Unpack it and send them in smaller groups.`);
  const size = entries.reduce((sum, entry) => sum + (entry.size > budget.file ? 0 : entry.size), 0);
  if (size > budget.unpacked) throw problem(`This zip file unpacks to more than ${inMegabytes(budget.unpacked)}. Unpack it and send the images in smaller groups.`);
  budget.unpacked -= size;
  const files = [];
  for (const entry of entries) files.push(await extract(file, entry, budget));
  return files;
}

/** Return a file of a zip file; one that cannot be unpacked is empty and has a problem. */
async function extract(archive, entry, budget) {
  const name = entry.path.split("/").at(-1);
  const options = { lastModified: archive.lastModified };
  let file = new File([], name, options);
  try {
    if (entry.size > budget.file) throw problem(`Unpacked, this file is larger than ${inMegabytes(budget.file)}. Unpack the zip file and send the image alone.`);
    file = new File(await unpack(archive, entry), name, options);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    problems.set(file, error);
  }
  paths.set(file, `${pathOf(archive)}/${entry.path}`);
  return file;
}

const inMegabytes = (bytes) => `${Math.floor(bytes / 1e6)} MB`;
