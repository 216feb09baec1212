// Reads the stored values of uncompressed DICOM files: those of gray ones, which windowing needs, or the colours; everything else has none (null).

const EXPLICIT = "1.2.840.10008.1.2.1"; // little endian
const IMPLICIT = "1.2.840.10008.1.2";
const LONG = new Set(["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"]); // PS3.5 section 7.1.2
const UNDEFINED = 0xffffffff;
const ITEM_END = 0xfffee00d;
const SEQUENCE_END = 0xfffee0dd;
const MAX_DEPTH = 16;
const TAGS = {
  syntax: 0x00020010, modality: 0x00080060, samples: 0x00280002, photometric: 0x00280004, planar: 0x00280006, frames: 0x00280008, rows: 0x00280010, columns: 0x00280011,
  allocated: 0x00280100, stored: 0x00280101, isSigned: 0x00280103, padding: 0x00280120, limit: 0x00280121, center: 0x00281050, width: 0x00281051,
  intercept: 0x00281052, slope: 0x00281053, type: 0x00281054, modalityTable: 0x00283000, table: 0x00283010, shape: 0x20500020, pixels: 0x7fe00010,
};

/** Walks over the elements of a DICOM file, which start behind its preamble; raises a RangeError behind its end. */
export class Reader {
  constructor(buffer) {
    this.view = new DataView(buffer);
    this.at = 132;
  }

  get isDone() {
    return this.at + 8 > this.view.byteLength;
  }

  /** Return the next element's tag, offset and length, and go behind its header. */
  header(isExplicit) {
    const { view, at } = this;
    const tag = view.getUint16(at, true) * 0x10000 + view.getUint16(at + 2, true);
    const kind = isExplicit && tag < 0xfffe0000 ? String.fromCharCode(view.getUint8(at + 4), view.getUint8(at + 5)) : "";
    const isShort = kind !== "" && !LONG.has(kind);
    this.at += LONG.has(kind) ? 12 : 8;
    const length = isShort ? view.getUint16(at + 6, true) : view.getUint32(this.at - 4, true);
    return { tag, kind, offset: this.at, length };
  }

  /** Go behind a value; one of undefined length holds items up to a delimiter. */
  skip({ tag, kind, length }, isExplicit, depth = 0) {
    if (length !== UNDEFINED) {
      this.at += length;
      return;
    }
    if (depth > MAX_DEPTH) throw new RangeError("nested too deeply");
    const end = tag === 0xfffee000 ? ITEM_END : SEQUENCE_END;
    while (!this.isDone) {
      const inner = this.header(isExplicit && kind !== "UN"); // PS3.5 section 6.2.2: unknown sequences are implicit
      if (inner.tag === end) return;
      this.skip(inner, isExplicit && kind !== "UN", depth + 1);
    }
  }

  text({ offset, length }) {
    return new TextDecoder("latin1").decode(new Uint8Array(this.view.buffer, offset, length)).replace(/[\0 ]+$/, "");
  }
}

/** Return the elements of `TAGS` by name, and the reader; null if the values are compressed or this is not DICOM. */
function elements(buffer) {
  if (buffer.byteLength < 140 || new TextDecoder("latin1").decode(new Uint8Array(buffer, 128, 4)) !== "DICM") return null;
  const names = new Map(Object.entries(TAGS).map(([name, tag]) => [tag, name]));
  const reader = new Reader(buffer);
  const byName = {};
  let isExplicit = true; // the group of the file's meta information always is
  while (!reader.isDone) {
    if (reader.view.getUint16(reader.at, true) !== 2 && byName.syntax) {
      const syntax = reader.text(byName.syntax);
      if (syntax !== EXPLICIT && syntax !== IMPLICIT) return null;
      isExplicit = syntax === EXPLICIT;
    }
    const element = reader.header(isExplicit);
    const name = names.get(element.tag);
    if (name) byName[name] = element;
    if (name === "pixels") break;
    reader.skip(element, isExplicit);
  }
  return { byName, reader };
}

/** Return the stored values as signed or unsigned numbers; bits above the stored ones do not belong to them. */
function samples(buffer, offset, count, { allocated, stored, isSigned }) {
  const bytes = buffer.slice(offset, offset + count * (allocated / 8));
  if (allocated === 8) return isSigned ? new Int8Array(bytes) : new Uint8Array(bytes);
  const values = isSigned ? new Int16Array(bytes) : new Uint16Array(bytes);
  const spare = allocated - stored;
  if (spare > 0) {
    for (let at = 0; at < values.length; at += 1) {
      const shifted = values[at] << (16 + spare);
      values[at] = isSigned ? shifted >> (16 + spare) : shifted >>> (16 + spare);
    }
  }
  return values;
}

/**
 * Return what a DICOM file stores: `values` (integers, row after row), `width`, `height`, `slope`, `intercept`, `padding`
 * (the first and last value, or null), `window` (the file's first one or null), whether high values are dark (`isInverse`),
 * whether they are in Hounsfield units (`isHounsfield`), and whether a table maps them (`hasTable`). Of a file with several
 * frames, name the `frame`, from 1.
 */
export const parseValues = (buffer, frame = null) => parse(buffer, (content, parsed) => described(content, parsed, frame));

/** Return the picture of a file in colour (RGB, 8 bits), or of its `frame`: `width`, `height`, and `pixels` as red, green, blue and opacity. */
export const parseColours = (buffer, frame = null) => parse(buffer, (content, parsed) => coloured(content, parsed, frame));

function parse(buffer, describe) {
  try {
    const parsed = elements(buffer);
    return parsed?.byName.pixels ? describe(buffer, parsed) : null;
  } catch (error) {
    if (error instanceof RangeError) return null; // read behind the end: damaged
    throw error;
  }
}

function described(buffer, { byName, reader }, frame) {
  const integer = (name, missing) => (byName[name] ? reader.view.getUint16(byName[name].offset, true) : missing);
  const decimal = (name, missing) => {
    const value = byName[name] ? Number.parseFloat(reader.text(byName[name])) : Number.NaN; // of several the first
    return Number.isFinite(value) ? value : missing;
  };
  const width = integer("columns", 0);
  const height = integer("rows", 0);
  const bits = { allocated: integer("allocated", 0), stored: integer("stored", 0), isSigned: integer("isSigned", 0) === 1 };
  const text = (name) => (byName[name] ? reader.text(byName[name]).trim() : "");
  const photometric = text("photometric");
  const frames = decimal("frames", 1);
  const isGray = /^MONOCHROME[12]$/.test(photometric) && integer("samples", 1) === 1 && (frame === null ? frames === 1 : frame <= frames);
  const isWhole = (bits.allocated === 8 || bits.allocated === 16) && bits.stored > 0 && bits.stored <= bits.allocated;
  const size = width * height * (bits.allocated / 8);
  const place = ((frame ?? 1) - 1) * size;
  if (!isGray || !isWhole || size === 0 || byName.pixels.length < place + size) return null;
  const values = samples(buffer, byName.pixels.offset + place, width * height, bits);
  if (values.length !== width * height) return null;
  const hasTable = Boolean(byName.modalityTable ?? byName.table);
  const center = decimal("center", null);
  const range = decimal("width", null);
  return {
    values, width, height,
    slope: decimal("slope", 1) || 1, intercept: decimal("intercept", 0), hasTable,
    padding: paddingOf(values, signed(integer("padding", null), bits), signed(integer("limit", null), bits)),
    isInverse: photometric === "MONOCHROME1" || text("shape") === "INVERSE",
    isHounsfield: text("modality") === "CT" && !byName.modalityTable && (text("type") === "HU" || (text("type") === "" && Boolean(byName.intercept))),
    window: center !== null && range > 0 ? { level: center, width: range } : null,
  };
}

function coloured(buffer, { byName, reader }, frame) {
  const integer = (name) => (byName[name] ? reader.view.getUint16(byName[name].offset, true) : 0);
  const [width, height] = [integer("columns"), integer("rows")];
  const count = width * height;
  const isColour = byName.photometric && reader.text(byName.photometric).trim() === "RGB" && integer("samples") === 3 && integer("allocated") === 8;
  const frames = byName.frames ? Number.parseInt(reader.text(byName.frames), 10) : 1;
  const place = ((frame ?? 1) - 1) * 3 * count;
  if (!isColour || count === 0 || (frame === null ? frames !== 1 : frame > frames) || byName.pixels.length < place + 3 * count) return null;
  const values = new Uint8Array(buffer, byName.pixels.offset + place, 3 * count);
  const [step, plane] = integer("planar") === 1 ? [1, count] : [3, 1];
  const pixels = new Uint8ClampedArray(4 * count).fill(255);
  for (let at = 0; at < count; at += 1) for (const colour of [0, 1, 2]) pixels[4 * at + colour] = values[step * at + plane * colour];
  return { width, height, pixels };
}

/** Return 16 bits as a number of the sign and size that the values have, null if they lack it: writers use the wrong sign, as in handlers/dicom/windowing.py. */
function signed(bits, { stored, isSigned }) {
  if (bits === null) return null;
  const low = isSigned ? -(2 ** (stored - 1)) : 0;
  const candidates = [bits, bits - 65_536, ...(bits < 2 ** stored ? [bits - 2 ** stored] : [])];
  return candidates.find((value) => value >= low && value < low + 2 ** stored) ?? null;
}

/** Return the first and last value of padding; null without any, or if everything is padding. */
function paddingOf(values, value, limit) {
  if (value === null) return null;
  const [low, high] = [Math.min(value, limit ?? value), Math.max(value, limit ?? value)];
  return values.every((each) => each >= low && each <= high) ? null : [low, high];
}
