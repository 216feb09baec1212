// Files that the user adds while a stored result, or a series of them, lacks images: those with the same checksums are joined.

import { digest } from "./prediction.js";

let expected = null; // checksums of the images, and what to do with the files

/** Wait for the images with some checksums, of one result or of a series: `join(files)` shows them, by checksum; `refuse(reason, files, otherwise)` says why files are not them. Return what ends the wait. */
export function expectImages(checksums, isSeries, join, refuse) {
  const own = { checksums: new Set(checksums), isSeries, join, refuse };
  expected = own;
  return () => {
    if (expected === own) expected = null;
  };
}

/** Expect no image. */
export function expectNone() {
  expected = null;
}

/** Take files for what lacks images; return whether they were taken. `otherwise` analyses other images. */
export function offer(files, otherwise) {
  if (expected === null || (files.length !== 1 && !expected.isSeries)) return false;
  compare(files, expected, otherwise);
  return true;
}

async function compare(files, own, otherwise) {
  const { checksums, isSeries, join, refuse } = own;
  const sums = new Map();
  for (const file of files) sums.set(await digest(file).catch(() => undefined), file);
  const found = new Map([...sums].filter(([sum]) => checksums.has(sum)));
  const text = files.length === 1 ? `${files[0].name} is another image than ${isSeries ? "those of these results" : "the one of this result"}: their checksums differ.` : "These are other images than those of these results: their checksums differ.";
  if (expected !== own) otherwise(); // another view was opened meanwhile
  else if (found.size) join(found);
  else if (sums.has(null)) refuse("This browser computes checksums only over https or on the server itself, so files cannot be compared with the result.", files, otherwise);
  else if (sums.has(undefined)) refuse("This file cannot be opened. Choose files, not folders.", files, null);
  else refuse(text, files, otherwise);
}
