// Connection to the analysis service: loads the catalog, and waits while the service starts.

import { forgetKey } from "./api.js";
import { allModels, isAnswering, loadCatalog } from "./catalog.js";
import { button, byId, make } from "./dom.js";
import { toProblem } from "./rejections.js";
import { EMPTY, READY, SLOW, failed, partial, starting } from "./service_state.js";

const PATIENCE = 3_000; // milliseconds until the page says that it waits for the first response
const PERIOD = 2_000;
const LONG_PERIOD = 10_000; // after a minute
const SHORT_PERIODS = 30;

let state = "loading";
let attempts = 0;
let timer = 0;
let pending = null;
let isOverridden = false; // the user sends the files that wait although the service says that it is not ready
let onChange = () => {};

/** Whether files can be sent: to a model, or to any if `model` is null. */
export const isReady = (model = null) => state === "ready" || (state === "partial" && (model === null || isAnswering(model)));

/** Call a function whenever the state or the catalog may have changed. */
export function install(listener) {
  onChange = listener;
  byId("send-now").addEventListener("click", override);
  for (const event of ["online", "offline"]) window.addEventListener(event, () => connect());
}

/** Load the catalog and check the service; repeats itself until the service is ready. */
export function connect() {
  pending ??= attempt().finally(() => { pending = null; });
  return pending;
}

async function attempt() {
  clearTimeout(timer);
  const patience = state === "loading" ? setTimeout(draw, PATIENCE, SLOW) : 0;
  const current = await inspect();
  clearTimeout(patience);
  ({ state } = current);
  draw(current);
  onChange();
  attempts = state === "ready" ? 0 : attempts + 1;
  const period = attempts > SHORT_PERIODS ? LONG_PERIOD : PERIOD;
  if (current.retry) timer = setTimeout(connect, Math.max(1000 * (current.after ?? 0), period));
}

/** Return the state of the service; see `service_state`. */
async function inspect() {
  try {
    await loadCatalog();
  } catch (error) {
    return failed(toProblem(error), await waitingReason(), navigator.onLine);
  }
  const reason = await waitingReason();
  const isForced = isOverridden;
  isOverridden = false; // until the next check: after a failed request, the other files wait
  const isPartial = allModels().some(({ name }) => isAnswering({ name, version: null }));
  if (reason !== null && !isForced) return isPartial ? partial(reason) : starting(reason);
  return allModels().length === 0 ? EMPTY : READY;
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

/** Send the files that wait although the service says that it is not ready. */
function override() {
  isOverridden = true;
  connect();
}

const ACTIONS = {
  connect,
  replaceKey: () => {
    forgetKey();
    connect();
  },
};

function draw({ title, text, detail = "", action = null, canOverride = false }) {
  const region = byId("service");
  const drawn = JSON.stringify([title, text, detail, action]);
  if (region.dataset.drawn === drawn) return; // screen readers announce every change
  region.dataset.drawn = drawn;
  region.hidden = title === "";
  byId("send-now").hidden = !canOverride; // next to the files that wait
  region.replaceChildren(
    make("div", {}, make("p", {}, make("strong", {}, title)), make("p", {}, text ?? ""), detail ? make("p", { class: "small" }, detail) : null),
    action ? button(action.text, () => ACTIONS[action.name]()) : "");
}
