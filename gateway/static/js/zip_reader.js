// Reads zip files piece by piece; the browser decompresses. See APPNOTE.TXT of PKWARE for the format.

import { Problem } from "./api.js";
import { crc32 } from "./crc32.js";

const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const LOCAL_SIZE = 30;
const CENTRAL_SIZE = 46;
const END_SIZE = 22;
const MAX_COMMENT = 0xffff;
const MAX_DIRECTORY = 16e6; // bytes; 2000 files with the longest names and comments need less in practice
const STORED = 0;
const DEFLATED = 8;

const problem = (text) => new Problem(text, { canRetry: false });
const LARGE = 0xffffffff; // stands for a number of ZIP64
const zip64 = () => problem("This page cannot read ZIP64, the format of this zip file. Unpack it and drop the images.");
const damaged = () => problem("This zip file is damaged or incomplete. Export it again.");

/** Return the files of a zip file in its order, without reading them: `path`, `size` in bytes, and what `unpack` needs; throws a Problem. */
export async function listEntries(blob) {
  const { at, count, size, offset } = await findEnd(blob);
  if (count === 0xffff || [size, offset].includes(LARGE)) throw zip64();
  if (offset + size > at || size > MAX_DIRECTORY) throw damaged();
  const view = await viewOf(blob, offset, size);
  const entries = [];
  let position = 0;
  for (let index = 0; index < count; index += 1) {
    if (position + CENTRAL_SIZE > size || view.getUint32(position, true) !== CENTRAL) throw damaged();
    const { entry, length } = parseEntry(view, position);
    position += length;
    if ([entry.packed, entry.size, entry.offset].includes(LARGE)) throw zip64();
    if (!entry.path.endsWith("/")) entries.push(entry);
  }
  if (entries.length > 0 && entries.every(({ isEncrypted }) => isEncrypted)) throw problem("This zip file is encrypted. Unpack it and drop the images.");
  return entries;
}

/** Return the parts of a file's content; throws a Problem if it cannot be read or is not what the zip file declares. */
export async function unpack(blob, { offset, packed, size, method, checksum, isEncrypted }) {
  if (isEncrypted) throw problem("This file is encrypted. Unpack the zip file and drop the images.");
  if (method !== STORED && method !== DEFLATED) throw problem("This file is compressed in a way that browsers cannot read. Unpack the zip file and drop the images.");
  const header = await viewOf(blob, offset, LOCAL_SIZE);
  if (header.getUint32(0, true) !== LOCAL) throw damaged();
  const start = offset + LOCAL_SIZE + header.getUint16(26, true) + header.getUint16(28, true);
  const stream = blob.slice(start, start + packed).stream();
  const reader = (method === DEFLATED ? stream.pipeThrough(new DecompressionStream("deflate-raw")) : stream).getReader();
  const parts = [];
  let total = 0;
  let sum = 0;
  for (;;) {
    const { done, value } = await reader.read().catch(() => { throw damaged(); });
    if (done) break;
    total += value.length;
    if (total > size) { // a declared size cannot hide a larger content
      reader.cancel().catch(() => {});
      throw damaged();
    }
    sum = crc32(value, sum);
    parts.push(value);
  }
  if (total !== size || sum !== checksum) throw damaged();
  return parts;
}

async function findEnd(blob) {
  const start = Math.max(0, blob.size - END_SIZE - MAX_COMMENT);
  const view = await viewOf(blob, start, blob.size - start);
  for (let at = view.byteLength - END_SIZE; at >= 0; at -= 1) {
    if (view.getUint32(at, true) === END && at + END_SIZE + view.getUint16(at + 20, true) === view.byteLength) {
      return { at: start + at, count: view.getUint16(at + 10, true), size: view.getUint32(at + 12, true), offset: view.getUint32(at + 16, true) };
    }
  }
  throw damaged();
}

/** Parse an entry of the directory; return it and its length there. */
function parseEntry(view, at) {
  const nameLength = view.getUint16(at + 28, true);
  const length = CENTRAL_SIZE + nameLength + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
  if (at + length > view.byteLength) throw damaged();
  const entry = {
    path: decodeName(new Uint8Array(view.buffer, view.byteOffset + at + CENTRAL_SIZE, nameLength)),
    isEncrypted: (view.getUint16(at + 8, true) & 1) === 1,
    method: view.getUint16(at + 10, true),
    checksum: view.getUint32(at + 16, true),
    packed: view.getUint32(at + 20, true),
    size: view.getUint32(at + 24, true),
    offset: view.getUint32(at + 42, true),
  };
  return { entry, length };
}

const CODE_PAGE_437 = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0";

/** Decode a name; programs that write UTF-8 often do not say so. */
function decodeName(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes).replaceAll("\\", "/");
  } catch {
    return Array.from(bytes, (byte) => (byte < 128 ? String.fromCharCode(byte) : CODE_PAGE_437[byte - 128])).join("").replaceAll("\\", "/");
  }
}

async function viewOf(blob, start, length) {
  const buffer = await blob.slice(start, start + length).arrayBuffer();
  if (buffer.byteLength !== length) throw damaged();
  return new DataView(buffer);
}
