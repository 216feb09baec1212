// State of the analysis service: loads the catalog, waits while the service starts, and says what is wrong.

import { forgetKey } from "./api.js";
import { allModels, loadCatalog } from "./catalog.js";
import { button, byId, make } from "./dom.js";
import { toProblem } from "./rejections.js";

const FAST = 2_000;
const SLOW = 10_000; // milliseconds between attempts after a minute
const FAST_ATTEMPTS = 30;
const wait = (event) => `You can add files now. They are analysed when ${event}.`;

let state = "loading";
let attempts = 0;
let timer = 0;
let pending = null;
let isOverridden = false; // the user sends files although the service says that it is not ready
let onChange = () => {};

/** Whether files can be sent. */
export const isReady = () => state === "ready";

/** Call a function whenever the state or the catalog may have changed. */
export function install(listener) {
  onChange = listener;
  window.addEventListener("online", connect);
  window.addEventListener("offline", connect);
}

/** Load the catalog and check the service; repeats itself until the service is ready. */
export function connect() {
  pending ??= attempt().finally(() => { pending = null; });
  return pending;
}

async function attempt() {
  clearTimeout(timer);
  const notice = await inspect();
  ({ state } = notice);
  draw(notice);
  onChange();
  attempts = isReady() ? 0 : attempts + 1;
  if (notice.retry) timer = setTimeout(connect, Math.max(1000 * (notice.after ?? 0), attempts > FAST_ATTEMPTS ? SLOW : FAST));
}

/** Return the state of the service, and what the page says about it. */
async function inspect() {
  try {
    await loadCatalog();
  } catch (error) {
    return describeFailure(toProblem(error), await waitingReason());
  }
  const reason = isOverridden ? null : await waitingReason();
  if (reason !== null) {
    return { state: "starting", title: "The analysis service is starting.", text: wait("the service is ready"), detail: reason, retry: true, action: "Send now", run: override };
  }
  if (allModels().length === 0) {
    return { state: "empty", title: "The server offers no models.", text: "Ask your administrator to add one; this page keeps checking.", retry: true };
  }
  return { state: "ready" };
}

/** Return why the service is not ready; null if it is, or if it does not say. */
async function waitingReason() {
  try {
    const response = await fetch("ready", { cache: "no-store" });
    if (response.status !== 503) return null;
    const { detail } = await response.json();
    return typeof detail === "string" ? detail : "";
  } catch {
    return null;
  }
}

/** Return what the page says if the catalog cannot be loaded. */
export function describeFailure(problem, reason = null) {
  const { status, message, detail, retryAfter } = problem;
  if (status === 0 && !navigator.onLine) return { state: "offline", title: "You are offline.", text: wait("you are connected"), retry: true };
  if (status === 0) return { state: "unreachable", title: "No connection to the server. Retrying.", text: wait("the server responds"), retry: true };
  if (status === 401) return { state: "key", title: "Access key required.", text: "Enter the access key from your administrator. Files that you add are analysed after that.", action: "Enter access key", run: connect };
  if (status === 403) return { state: "forbidden", title: "Your access key does not permit this.", text: "Ask your administrator for a key with the role predict.", action: "Use another key", run: replaceKey };
  if (status === 429) return { state: "limited", title: "Too many requests.", text: "The server limits how often you may call it; this page continues when it may.", retry: true, after: retryAfter };
  if ([502, 503, 504].includes(status)) {
    return { state: "starting", title: reason === null ? "The analysis service is starting or down. Retrying." : "The analysis service is starting.", text: wait("it is ready"), detail: reason || detail, retry: true, after: Math.min(retryAfter, 5) };
  }
  return { state: "failed", title: "The list of models cannot be loaded.", text: message, detail, action: "Try again", run: connect };
}

function override() {
  isOverridden = true;
  connect();
}

function replaceKey() {
  forgetKey();
  connect();
}

function draw({ title = "", text, detail, action, run }) {
  const region = byId("service");
  const drawn = JSON.stringify([title, text, detail, action]);
  if (region.dataset.drawn === drawn) return; // screen readers announce every change
  region.dataset.drawn = drawn;
  region.hidden = title === "";
  if (title === "") return;
  region.replaceChildren(
    make("div", {}, make("p", {}, make("strong", {}, title)), make("p", {}, text), detail ? make("p", { class: "small" }, detail) : null),
    action ? button(action, run) : "");
}
