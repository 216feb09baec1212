// The gateway's API: requests, the key, and refusals as errors.

import { ask } from "./access.js";

const KEY = "radserve.key";
const CLIENT = "radserve.client";
const PATIENCE = 180_000;

/** What the server refused or could not do; it has no label and never becomes a result. */
export class Refusal extends Error {
  constructor({ status = 0, title, detail, request_id: requestId = "" }) {
    super(detail);
    this.status = status;
    this.title = title;
    this.requestId = requestId;
  }

  /** Whether the same may succeed later. */
  get passing() {
    return this.status === 0 || this.status === 401 || this.status === 429 || this.status >= 500;
  }
}

const kept = new Map();

function recall(name) {
  try {
    return sessionStorage.getItem(name) ?? "";
  } catch {
    return kept.get(name) ?? "";
  }
}

function remember(name, value) {
  kept.set(name, value);
  try {
    sessionStorage.setItem(name, value);
  } catch {
    // Storage may be forbidden; then it lasts as long as the page.
  }
}

/** Whether a key is in use. */
export const hasKey = () => recall(KEY) !== "";

/** Forget the key. */
export const forgetKey = () => remember(KEY, "");

/** Who this tab is to a server that splits requests between versions: random, and gone with the tab. */
function client() {
  if (!recall(CLIENT)) {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    remember(CLIENT, Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(""));
  }
  return recall(CLIENT);
}

function headers(accept) {
  const key = recall(KEY);
  return { Accept: accept, "X-Client-Id": client(), ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

/** Do something; where a key is missing, ask for one and do it again. */
async function keyed(action) {
  for (;;) {
    const used = recall(KEY);
    try {
      return await action();
    } catch (error) {
      if (!(error instanceof Refusal) || error.status !== 401) throw error;
      // Another request may have got a new key meanwhile.
      if (recall(KEY) === used) {
        const entered = await ask(error.message);
        if (!entered) throw error;
        remember(KEY, entered);
      }
    }
  }
}

/** Read a refusal's problem details; what has none is described by its status. */
export function refusal(status, text) {
  try {
    const found = JSON.parse(text);
    if (typeof found.title === "string" && typeof found.detail === "string") return new Refusal({ ...found, status });
  } catch {
    // said below
  }
  return new Refusal({
    status,
    title: `Status ${status}`,
    detail: "The server, or something before it, refused without a reason. Try again; if it lasts, tell its operator.",
  });
}

const unreachable = () => new Refusal({
  title: "No connection",
  detail: "The server could not be reached. Check the network, then try again.",
});

const broken = () => new Refusal({
  title: "Connection lost",
  detail: "It broke off while the file was being sent. The file may be larger than the server takes: send it smaller, or try again.",
});

/** Get something: a response with status 200. */
export function get(path, accept = "application/json", method = "GET") {
  return keyed(async () => {
    let response;
    try {
      response = await fetch(path, { method, headers: headers(accept), cache: "no-store" });
    } catch {
      throw unreachable();
    }
    if (!response.ok) throw refusal(response.status, await response.text());
    return response;
  });
}

/** Send an image; return the body of the answer, as text or as a Blob where a picture is asked for. */
export function post(path, file, { accept = "application/json", onProgress = () => {}, signal = null } = {}) {
  const json = accept === "application/json";
  // The content decides what it is; a type that the browser guessed from the name could only mislead.
  const form = new FormData();
  form.append("file", new File([file], file.name, { type: "application/octet-stream" }));
  return keyed(() => new Promise((resolve, reject) => {
    // fetch tells nothing of what is on its way.
    const request = new XMLHttpRequest();
    request.open("POST", path);
    request.responseType = "blob";
    request.timeout = PATIENCE;
    for (const [name, value] of Object.entries(headers(accept))) request.setRequestHeader(name, value);
    let share = 0;
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onProgress(share = event.loaded / event.total);
    });
    request.addEventListener("load", async () => {
      const wanted = json ? "application/json" : "image/png";
      const media = (request.getResponseHeader("content-type") ?? "").split(";")[0].trim();
      if (request.status !== 200) reject(refusal(request.status, await request.response.text()));
      else if (media !== wanted) reject(unusable(`it is ${media || "of no type"}, where ${wanted} was asked for`));
      else resolve(json ? await request.response.text() : request.response);
    });
    request.addEventListener("error", () => reject(share > 0 && share < 1 ? broken() : unreachable()));
    request.addEventListener("timeout", () => reject(new Refusal({
      title: "No answer in time", detail: "The server took longer than three minutes. Try again later.",
    })));
    request.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
    signal?.addEventListener("abort", () => request.abort());
    if (signal?.aborted) reject(new DOMException("cancelled", "AbortError"));
    else request.send(form);
  }));
}

/** What arrived is no answer. */
export function unusable(why) {
  return new Refusal({
    title: "Unusable answer",
    detail: `What the server answered cannot be used: ${why}. Nothing of it is shown. Try again; if it lasts, tell its operator.`,
  });
}
