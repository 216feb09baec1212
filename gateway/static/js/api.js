// Requests to the gateway's API, with the access key; failures become problems.

import { reasonText } from "./domain.js";
import { requestKey } from "./key_dialog.js";
import { NEAR_LIMIT, problemText } from "./problems.js";

const KEY = "radserve.key";
const CLIENT = "radserve.client";
const TIMEOUT = 180_000;

/** Title of the problem of an image that does not state what the server requires. */
export const MISSING_ATTRIBUTE = "Missing attribute";

/**
 * A request or file that failed; it never becomes a result.
 *
 * `message` is what the page says, `detail` what the API says, if anything.
 */
export class Problem extends Error {
  constructor(message, { status = 0, title = "", detail = "", requestId = "", canRetry = true, retryAfter = 0, domain = null } = {}) {
    super(message);
    this.status = status;
    this.title = title;
    this.detail = detail;
    this.requestId = requestId;
    this.domain = domain; // how the image compares with the training images, if it was refused for that
    this.canRetry = canRetry; // whether a second attempt may succeed
    this.retryAfter = retryAfter; // seconds after which it may
  }
}

/** The server's response is not a valid prediction. */
export function invalidResponse(reason) {
  return new Problem("The server's response is invalid, so no result is shown. Try again; if it happens again, contact your administrator.", { detail: `Reason: ${reason}.` });
}

const memory = new Map();

function recall(name) {
  try {
    return sessionStorage.getItem(name) ?? "";
  } catch {
    return memory.get(name) ?? "";
  }
}

function remember(name, value) {
  memory.set(name, value);
  try {
    sessionStorage.setItem(name, value);
  } catch {
    // Storage may be forbidden; the value lasts as long as the page.
  }
}

/** Whether a key is stored. */
export const hasKey = () => recall(KEY) !== "";

/** Delete the stored key. */
export const forgetKey = () => remember(KEY, "");

/** Return the bytes in hexadecimal. */
export const toHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Return the random id of this tab, which keeps it on one side of a traffic split. */
function clientId() {
  if (!recall(CLIENT)) remember(CLIENT, toHex(crypto.getRandomValues(new Uint8Array(16))));
  return recall(CLIENT);
}

function headers(accept) {
  const key = recall(KEY);
  return { Accept: accept, "X-Client-Id": clientId(), ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

/** Run an action; if it fails for lack of a key, ask for one and repeat it. */
async function withKey(action) {
  for (;;) {
    const previous = recall(KEY);
    try {
      return await action();
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 401) throw error;
      // A concurrent request may have stored a new key meanwhile.
      if (recall(KEY) === previous) {
        const key = await requestKey(previous ? "This access key is not valid. Enter the access key from your administrator." : error.message);
        if (!key) throw error;
        remember(KEY, key);
      }
    }
  }
}

/** Create a problem from a response that is not 200; `retryAfter` is its header. */
function toProblem(status, text, retryAfter) {
  let details = {};
  try {
    details = JSON.parse(text) ?? {};
  } catch {
    // The response is not problem details; the status describes it.
  }
  return fromDetails(status, details, retryAfter);
}

/** Create the problem of one image among several from its problem details. */
export const itemProblem = (details) => fromDetails(Number.isInteger(details.status) ? details.status : 500, details);

function fromDetails(status, details, retryAfter = null) {
  const { domain = null } = details; // the API's detail tells programmers how to repeat the request
  const asText = (value) => (typeof value === "string" ? value : "");
  return new Problem(domain?.near ? NEAR_LIMIT : problemText(status, details.title), {
    status,
    title: asText(details.title),
    detail: domain ? reasonText(domain) : asText(details.detail),
    domain,
    requestId: asText(details.request_id),
    retryAfter: /^[0-9]{1,4}$/.test(retryAfter ?? "") ? Number(retryAfter) : 0,
    canRetry: status === 401 || status === 429 || status >= 500 || details.title === MISSING_ATTRIBUTE,
  });
}

const unreachable = () => new Problem("No connection to the server. Check the network, then try again.");
const interrupted = () => new Problem("The connection broke during the upload. The file may be too large: send a smaller one, or try again.");
const cancelled = () => new DOMException("cancelled", "AbortError");

/** Return the response of a request without a body. */
export function get(path, accept = "application/json", method = "GET", signal = null) {
  return withKey(async () => {
    let response;
    try {
      response = await fetch(path, { method, headers: headers(accept), cache: "no-store", signal });
    } catch {
      throw signal?.aborted ? cancelled() : unreachable();
    }
    if (!response.ok) throw toProblem(response.status, await response.text(), response.headers.get("Retry-After"));
    return response;
  });
}

/** Return a form with a file. The content determines the format; a type that the browser derives from the name could be wrong. */
function formOf(file) {
  const form = new FormData();
  form.append("file", new File([file], file.name, { type: "application/octet-stream" }));
  return form;
}

/**
 * Send an image; return the response as text, or as a Blob if a picture or DICOM was requested.
 *
 * `assurances` is what the user states about it, `prevalence` how common the finding is, `repair` how the server changes
 * it first. With an `object`, the key of its upload, the image itself is not sent; with `instances`, a list of base64 images,
 * no file.
 */
export function post(path, file, { accept = "application/json", assurances = "", prevalence = "", repair = "", object = "", instances = null, onProgress = () => {}, signal = null } = {}) {
  const isJson = accept === "application/json";
  const document = instances ? { instances } : object ? { object } : null;
  const body = document ? JSON.stringify(document) : formOf(file);
  const query = String(new URLSearchParams(Object.entries({ prevalence, repair }).filter(([, value]) => value !== "")));
  return withKey(() => new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch reports no upload progress
    request.open("POST", query ? `${path}?${query}` : path);
    request.responseType = "blob";
    request.timeout = TIMEOUT;
    for (const [name, value] of Object.entries(headers(accept))) request.setRequestHeader(name, value);
    if (assurances) request.setRequestHeader("X-Assurances", assurances);
    if (document) request.setRequestHeader("Content-Type", "application/json");
    let sent = 0;
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onProgress(sent = event.loaded / event.total);
    });
    request.addEventListener("load", async () => {
      const expected = accept.split(";")[0];
      const type = (request.getResponseHeader("content-type") ?? "").split(";")[0].trim();
      if (request.status !== 200) reject(toProblem(request.status, await request.response.text(), request.getResponseHeader("Retry-After")));
      else if (type !== expected) reject(invalidResponse(`its type is ${type || "unknown"} instead of ${expected}`));
      else resolve(isJson ? await request.response.text() : request.response);
    });
    request.addEventListener("error", () => reject(sent > 0 && sent < 1 ? interrupted() : unreachable()));
    request.addEventListener("timeout", () => reject(new Problem(problemText(504))));
    request.addEventListener("abort", () => reject(cancelled()));
    signal?.addEventListener("abort", () => request.abort());
    if (signal?.aborted) reject(cancelled());
    else request.send(body);
  }));
}
