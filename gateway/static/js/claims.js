// Files that the user adds while a stored result, or a series of them, lacks images: those with the same checksums are joined.

import { Problem } from "./api.js";
import { fileNames } from "./format.js";
import { digest } from "./prediction.js";
import { show } from "./rejections.js";

let expected = null; // checksums of the images, and what to do with the files

/**
 * Wait for the images with some checksums, of one result or of a series. Return what ends the wait.
 *
 * `settle(matching, rejection)` gets the files that are among them, by checksum, and of the others the `reason`, the `files` that can be analysed, and
 * `analyse()`; null without others.
 */
export function expectImages(checksums, isSeries, settle) {
  const wait = { checksums: new Set(checksums), isSeries, settle };
  expected = wait;
  return () => {
    if (expected === wait) expected = null;
  };
}

/** Expect no image. */
export function expectNone() {
  expected = null;
}

/** Take files for what lacks images; return whether they were taken. `analyse(others)` analyses other images. */
export function offer(files, analyse) {
  if (expected === null) return false;
  compare(files, expected, analyse);
  return true;
}

async function compare(files, wait, analyse) {
  const sums = new Map();
  for (const file of files) sums.set(file, await digest(file).catch(() => undefined));
  if (expected !== wait) {
    const problem = new Problem("Not used: the stored result was closed meanwhile, or already has its image.", { canRetry: false });
    show(fileNames(files), problem, { retry: () => analyse(files), text: "Analyse" });
    return;
  }
  const isMatching = (file) => wait.checksums.has(sums.get(file));
  const matching = new Map(files.filter(isMatching).map((file) => [sums.get(file), file]));
  const others = files.filter((file) => !isMatching(file));
  const readable = others.filter((file) => sums.get(file) !== undefined);
  const reason = [reasonOf(readable, sums, wait.isSeries), unreadable(others.filter((file) => !readable.includes(file)))].filter(Boolean).join(" ");
  wait.settle(matching, others.length ? { reason, files: readable, analyse: () => analyse(readable) } : null);
}

function reasonOf(files, sums, isSeries) {
  if (files.length === 0) return "";
  if (sums.get(files[0]) === null) return "This browser computes checksums only over https or on the server itself, so files cannot be compared with the result.";
  const [verb, checksum] = files.length === 1 ? ["does", "checksum"] : ["do", "checksums"];
  return `${fileNames(files)} ${verb} not match ${isSeries ? "these results" : "this result"} (different ${checksum}).`;
}

const unreadable = (files) => (files.length ? `${fileNames(files)} cannot be opened. Choose files, not folders.` : "");
