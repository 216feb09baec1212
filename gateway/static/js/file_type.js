// Recognises files that cannot be analysed by their first bytes, before they are sent.

const HEIC = new Set(["heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"]);
const OFFICE = /\.(docx|pptx|xlsx|odt|odp)$/i;

/** Number of bytes at the start of a file that `unusableText` needs. */
export const START = 12;

/** Whether a file is a zip file, by its first bytes; documents of offices are not. */
export function isArchive(name, bytes) {
  return ["PK\u0003\u0004", "PK\u0005\u0006"].includes(String.fromCharCode(...bytes.subarray(0, 4))) && !OFFICE.test(name);
}

/** Return why a file cannot be analysed and what to do; null if it may be an image. */
export function unusableText(name, bytes) {
  const start = String.fromCharCode(...bytes);
  if (start === "") return "This file is empty.";
  if (isArchive(name, bytes)) return "This is a zip file in another one. Unpack it and drop the images.";
  if (start.startsWith("PK\u0003\u0004")) return "This is a document. Save the image in it as PNG, or export it from the viewer.";
  if (start.startsWith("%PDF")) return "PDFs cannot be read. Export the image as PNG.";
  if (start.slice(4, 8) === "ftyp" && HEIC.has(start.slice(8, 12))) {
    return "HEIC photos cannot be read. Save the photo as JPEG: on an iPhone, choose Settings, Camera, Formats, Most Compatible.";
  }
  return null;
}
