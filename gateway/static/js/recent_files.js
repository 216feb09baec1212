// The files that were analysed or added since the page was opened, by checksum: stored results can show them although the server keeps no images.

const MAX_FILES = 100;
const files = new Map();

/** Remember the file of an image; a checksum that is unknown is ignored. */
export function remember(sha256, file) {
  if (!sha256) return;
  files.delete(sha256);
  files.set(sha256, file);
  if (files.size > MAX_FILES) files.delete(files.keys().next().value);
}

/** Return the file with a checksum under a name; null if it is not known. */
export function recall(sha256, name) {
  const file = files.get(sha256);
  return file ? new File([file], name || file.name) : null;
}
