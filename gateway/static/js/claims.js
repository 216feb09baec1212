// A file that the user adds while a stored result lacks its image: it is joined if its checksum is that of the result.

import { digest } from "./prediction.js";

let expected = null; // `sha256` of the image, and what to do with the file

/** Wait for the image with a checksum: `join(file)` shows it, `refuse(reason, file, otherwise)` says why a file is not it. Return what ends the wait. */
export function expectImage(sha256, join, refuse) {
  const own = { sha256, join, refuse };
  expected = own;
  return () => {
    if (expected === own) expected = null;
  };
}

/** Expect no image. */
export function expectNone() {
  expected = null;
}

/** Take a file for the stored result that lacks its image; return whether it was taken. `otherwise` analyses another image. */
export function offer(files, otherwise) {
  if (expected === null || files.length !== 1) return false;
  compare(files[0], expected, otherwise);
  return true;
}

async function compare(file, own, otherwise) {
  const { sha256, join, refuse } = own;
  const sum = await digest(file).catch(() => undefined);
  if (expected !== own) otherwise(); // another view was opened meanwhile
  else if (sum === sha256) join(file);
  else if (sum === undefined) refuse("This file cannot be opened. Choose files, not folders.", file, null);
  else if (sum === null) refuse("This browser computes checksums only over https or on the server itself, so the file cannot be compared with the result.", file, otherwise);
  else refuse(`${file.name} is another image than the one of this result: their checksums differ.`, file, otherwise);
}
