// Reads from the start of a DICOM file what orders the slices of an examination. The server reads the image itself.

/** Bytes at the start of a file that hold its header; what lies beyond them counts as absent. */
export const HEADER_BYTES = 131_072;

const UNDEFINED = 0xFFFFFFFF;
const ITEM = 0xFFFEE000;
const ITEM_END = 0xFFFEE00D;
const SEQUENCE_END = 0xFFFEE0DD;
const LAST = 0x00280030; // PixelSpacing
const LONG = new Set(["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"]);
const IMPLICIT = "1.2.840.10008.1.2";
const BIG_ENDIAN = "1.2.840.10008.1.2.2";
const DEFLATED = "1.2.840.10008.1.2.1.99";
const TAGS = {
  0x00080060: "modality", 0x00180050: "thickness", 0x00180088: "between", 0x0020000E: "series", 0x00200013: "instance",
  0x00200032: "position", 0x00200037: "orientation", 0x00280010: "rows", 0x00280011: "columns",
};
const COUNTS = { series: 0, modality: 0, thickness: 1, between: 1, instance: 1, position: 3, orientation: 6 }; // numbers; 0 is text

/**
 * Return the header of a DICOM file from its first bytes; null if it is not one, or compressed as a whole.
 *
 * `series`, `modality`, and as numbers `instance`, `position`, `orientation`, `thickness`, `between`, `rows` and
 * `columns`; absent and malformed ones are null.
 */
export function readHeader(bytes) {
  if (bytes.length < 132 || text(bytes.subarray(128, 132)) !== "DICM") return null;
  const header = Object.fromEntries(Object.values(TAGS).map((name) => [name, null]));
  try {
    const meta = new Reader(bytes, 132);
    const syntax = readSyntax(meta);
    if (syntax === DEFLATED) return null;
    fill(header, new Reader(bytes, meta.at, { implicit: syntax === IMPLICIT, little: syntax !== BIG_ENDIAN }));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // the header is longer than what was read
  }
  return header;
}

/** Return the transfer syntax, and move behind the meta information. */
function readSyntax(meta) {
  let syntax = "";
  while (meta.at + 2 <= meta.bytes.length && meta.view.getUint16(meta.at, true) === 2) {
    const element = meta.next();
    if (element === null) break;
    if (element.tag === 0x00020010) syntax = text(meta.value(element));
    meta.skip(element);
  }
  return syntax;
}

function fill(header, reader) {
  for (let element = reader.next(); element !== null && element.tag <= LAST; element = reader.next()) {
    const name = TAGS[element.tag];
    if (name && element.length !== UNDEFINED) header[name] = parse(name, reader, element);
    reader.skip(element);
  }
}

function parse(name, reader, element) {
  if (name === "rows" || name === "columns") return element.length === 2 ? reader.view.getUint16(element.start, reader.little) : null;
  const value = text(reader.value(element));
  if (COUNTS[name] === 0) return value || null;
  const numbers = value.split("\\").map((part) => (part.trim() === "" ? NaN : Number(part)));
  if (numbers.length !== COUNTS[name] || !numbers.every(Number.isFinite)) return null;
  return numbers.length === 1 ? numbers[0] : numbers;
}

const text = (bytes) => String.fromCharCode(...bytes.subarray(0, 256)).replace(/[\0 ]+$/, "").trim();

/** Cursor over the elements of a data set (PS3.5, section 7). */
class Reader {
  constructor(bytes, at, { implicit = false, little = true } = {}) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = at;
    this.implicit = implicit;
    this.little = little;
  }

  /** Return the `tag`, `length`, `start` of the value and whether it `isUnknown` (VR UN) of the next element; null at the end. */
  next() {
    if (this.at + 8 > this.bytes.length) return null;
    const tag = this.view.getUint16(this.at, this.little) * 0x10000 + this.view.getUint16(this.at + 2, this.little);
    const isPlain = this.implicit || [ITEM, ITEM_END, SEQUENCE_END].includes(tag);
    const vr = isPlain ? "" : text(this.bytes.subarray(this.at + 4, this.at + 6));
    const isLong = LONG.has(vr);
    const length = isPlain ? this.view.getUint32(this.at + 4, this.little)
      : isLong ? this.view.getUint32(this.at + 8, this.little) : this.view.getUint16(this.at + 6, this.little);
    return { tag, length, start: this.at + (isLong ? 12 : 8), isUnknown: vr === "UN" };
  }

  value({ start, length }) {
    if (start + length > this.bytes.length) throw new RangeError("the value is beyond the bytes");
    return this.bytes.subarray(start, start + length);
  }

  /** Move behind an element; a sequence of undefined length ends with its delimiter. */
  skip({ start, length, isUnknown }) {
    this.at = start;
    if (length !== UNDEFINED) {
      this.at += length;
      return;
    }
    const { implicit } = this;
    this.implicit = implicit || isUnknown; // PS3.5, section 6.2.2, note 2
    for (let item = this.next(); item !== null; item = this.next()) {
      this.at = item.start;
      if (item.tag === SEQUENCE_END) break;
      if (item.tag !== ITEM_END && !(item.tag === ITEM && item.length === UNDEFINED)) this.skip(item); // else its elements follow
    }
    this.implicit = implicit;
  }
}
