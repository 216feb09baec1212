// The files that were analysed or added since the page was opened, by checksum: stored results can show them although the server keeps no images.

const MAX_BYTES = 256e6; // in total: files of a zip are in memory
const files = new Map();
const unsent = new Set(); // checksums of files that were added to be seen only

/** Remember the file of an image, and whether it was sent to the server; a checksum that is unknown is ignored. */
export function remember(sha256, file, { isSent = true } = {}) {
  if (!sha256) return;
  if (isSent) unsent.delete(sha256);
  else unsent.add(sha256);
  files.delete(sha256);
  files.set(sha256, file);
  let size = 0;
  for (const { size: bytes } of files.values()) size += bytes;
  for (const [oldest, { size: bytes }] of files) {
    if (size <= MAX_BYTES) break;
    files.delete(oldest);
    size -= bytes;
  }
}

/** Note that the server has, or gets, the image with a checksum; return whether that is new. */
export const markSent = (sha256) => unsent.delete(sha256);

/** Whether the file with a checksum must not be sent to the server to be shown. */
export const isUnsent = (sha256) => unsent.has(sha256);

/** Return the name of the file with a checksum; empty if it is not known. */
export const recentName = (sha256) => files.get(sha256)?.name ?? "";

/** Return the file with a checksum, which may be gone on the disk; null if it is not known. */
export const recentFile = (sha256) => files.get(sha256) ?? null;

/** Forget the file of an image. */
export const forget = (sha256) => files.delete(sha256);

/** Return the file with a checksum under a name; null if it is not known, or was moved, changed or deleted on the disk. */
export async function recall(sha256, name) {
  const file = files.get(sha256);
  try {
    return file ? new File([await file.arrayBuffer()], name || file.name) : null;
  } catch {
    forget(sha256);
    return null;
  }
}
