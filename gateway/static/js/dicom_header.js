// Reads from the start of a DICOM file what orders the slices of an examination. The server reads the image itself.

import { Reader } from "./dicom_values.js";

/** Bytes at the start of a file that hold its header; what lies beyond them counts as absent. */
export const HEADER_BYTES = 131_072;

const SYNTAX = 0x00020010;
const IMPLICIT = "1.2.840.10008.1.2";
const UNREADABLE = ["1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"]; // big endian, which is retired, and deflated
const LAST = 0x00280011;
const TAGS = {
  0x00080060: "modality", 0x00100020: "patient", 0x00180050: "thickness", 0x00180088: "between", 0x0020000D: "study", 0x0020000E: "series",
  0x00200013: "instance", 0x00200032: "position", 0x00200037: "orientation", 0x00200052: "frame", 0x00280008: "frames", 0x00280010: "rows", [LAST]: "columns",
};
const COUNTS = { thickness: 1, between: 1, instance: 1, frames: 1, position: 3, orientation: 6 }; // numbers of a text

/** Whether the first 140 bytes are those of a DICOM file. */
export const isDicom = (buffer) => buffer.byteLength >= 140 && String.fromCharCode(...new Uint8Array(buffer, 128, 4)) === "DICM";

/**
 * Return the header of a DICOM file from its first bytes; null if it is not one, or in a syntax that is not read here.
 *
 * `series`, `study`, `patient`, `frame` (of reference), `modality`, and as numbers `instance`, `frames`, `position`, `orientation`, `thickness`, `between`, `rows` and
 * `columns`; absent and malformed ones are null.
 */
export function readHeader(buffer) {
  if (!isDicom(buffer)) return null;
  const header = Object.fromEntries(Object.values(TAGS).map((name) => [name, null]));
  const reader = new Reader(buffer);
  let syntax = "";
  try {
    while (!reader.isDone) {
      const isMeta = reader.view.getUint16(reader.at, true) === 2;
      if (!isMeta && UNREADABLE.includes(syntax)) return null;
      const isExplicit = isMeta || syntax !== IMPLICIT;
      const element = reader.header(isExplicit);
      if (element.tag > LAST) break;
      if (element.tag === SYNTAX) syntax = reader.text(element);
      const name = TAGS[element.tag];
      if (name) header[name] = parse(name, reader, element);
      reader.skip(element, isExplicit);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // the header is longer than what was read, or damaged
  }
  return header;
}

function parse(name, reader, element) {
  if (name === "rows" || name === "columns") return element.length === 2 ? reader.view.getUint16(element.offset, true) : null;
  const value = reader.text(element).trim();
  const count = COUNTS[name];
  if (!count) return value || null;
  const numbers = value.split("\\").map((part) => (part.trim() === "" ? NaN : Number(part)));
  if (numbers.length !== count || !numbers.every(Number.isFinite)) return null;
  return count === 1 ? numbers[0] : numbers;
}
