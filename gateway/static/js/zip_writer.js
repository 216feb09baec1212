// Writes zip files without compression; see APPNOTE.TXT of PKWARE for the format.

import { crc32 } from "./crc32.js";

const UTF8_NAMES = 0x0800;
const VERSION = 20;
const PAUSE = 1e6; // bytes after which the page may respond

/** Return a zip file of entries (`path`, and `content` as text or bytes). */
export async function zip(entries, time = new Date()) {
  const parts = [];
  const directory = [];
  let offset = 0;
  let pending = 0;
  for (const { path, content } of entries) {
    const name = new TextEncoder().encode(path);
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    const fields = describe(bytes, name, time);
    const local = [u32(0x04034b50), ...fields, name];
    parts.push(...local, bytes);
    directory.push(u32(0x02014b50), u16(VERSION), ...fields, u16(0), u16(0), u16(0), u32(0), u32(offset), name);
    offset += sizeOf(local) + bytes.length;
    pending += bytes.length;
    if (pending > PAUSE) {
      pending = 0;
      await new Promise((resolve) => { setTimeout(resolve); });
    }
  }
  const end = [u32(0x06054b50), u16(0), u16(0), u16(entries.length), u16(entries.length), u32(sizeOf(directory)), u32(offset), u16(0)];
  return new Blob([...parts, ...directory, ...end], { type: "application/zip" });
}

/** Return the fields that an entry and its copy in the directory share. */
function describe(bytes, name, time) {
  const clock = (time.getHours() << 11) | (time.getMinutes() << 5) | (time.getSeconds() >> 1);
  const day = ((time.getFullYear() - 1980) << 9) | ((time.getMonth() + 1) << 5) | time.getDate();
  return [u16(VERSION), u16(UTF8_NAMES), u16(0), u16(clock), u16(day), u32(crc32(bytes)), u32(bytes.length), u32(bytes.length), u16(name.length), u16(0)];
}

const sizeOf = (parts) => parts.reduce((sum, { length }) => sum + length, 0);
const u16 = (value) => new Uint8Array([value & 255, (value >> 8) & 255]);
const u32 = (value) => new Uint8Array([value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24]);
