// Uploads files that are too large for a request to the operator's storage.

import { Problem, get } from "./api.js";

const TOO_LARGE = "This file is too large for this server. Export it compressed, as PNG or DICOM with JPEG 2000, or ask your administrator to enable uploads.";

/** Upload a file; return its key. `tooLarge` is the problem of the request that was too large. */
export async function upload(file, tooLarge, { signal = null } = {}) {
  const form = await requestForm(tooLarge);
  if (file.size > form.max_bytes) throw rejected(tooLarge);
  const body = new FormData();
  for (const [name, value] of Object.entries(form.fields)) body.append(name, value);
  body.append("file", file); // storage expects it last
  let response;
  try {
    response = await fetch(form.url, { method: "POST", body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The storage for large files cannot be reached. Try again; if it happens again, contact your administrator.");
  }
  if (!response.ok) throw new Problem("The storage refused the upload. Try again; if it happens again, contact your administrator.", { status: response.status });
  return form.object;
}

/** Delete an upload; the storage deletes what remains after a day or two. */
export function discardUpload(key) {
  get(`api/uploads?${new URLSearchParams({ object: key })}`, "application/json", "DELETE").catch(() => {});
}

async function requestForm(tooLarge) {
  try {
    return await (await get("api/uploads", "application/json", "POST")).json();
  } catch (error) {
    if (error.status === 404) throw rejected(tooLarge);
    throw error;
  }
}

const rejected = ({ detail, requestId }) => new Problem(TOO_LARGE, { status: 413, detail, requestId, canRetry: false });
