// Files and requests that failed: a region before the results, never among them.

import { Problem } from "./api.js";
import { alertReader, button, byId, make, svg } from "./dom.js";
import { counted } from "./format.js";
import { pathOf } from "./incoming.js";
import { thumbnailOf } from "./thumbnails.js";

const WARNING_SIGN = "M12 3 2.5 20h19L12 3zm0 6v5m0 3v.5";

/** Turn an error into a problem; other exceptions are bugs of the page. */
export function toProblem(error) {
  if (error instanceof Problem) return error;
  console.error(error);
  return new Problem("Something went wrong. Reload the page.", { detail: `Error: ${error?.name ?? "unknown"}.` });
}

const rejected = new WeakMap(); // item of the list -> files
const UNFIT = new Set(["Out of scope", "Unlike the training images", "Unusable image"]);

/** Whether a problem is one of the image, not of the request: another kind of image may be right. */
export const isUnfit = ({ title }) => UNFIT.has(title);

/** Whether the service could not be reached. */
export const isUnavailable = (error) => error instanceof Problem && error.canRetry && [0, 502, 503, 504].includes(error.status);

/** Return the paragraphs that describe a problem of a file that was read as `subject`. */
export function describe(problem, subject) {
  return [
    subject ? make("p", { class: "small" }, `Read as ${subject}`) : null,
    make("p", { class: "reason" }, problem.message),
    problem.detail ? make("p", { class: "small" }, `Details: ${problem.detail}`) : null,
    problem.requestId ? make("details", { class: "small" }, make("summary", {}, "For the administrator"), make("p", {}, `Status ${problem.status}, request ${problem.requestId}`)) : null,
  ];
}

/**
 * Show a problem; return its element.
 *
 * `retry` repeats what failed, or tries what the button's `text` says; it is offered only where that can help.
 * `file` is what could not be analysed, or `files` of a series; `subject` names the model, `change` lets the user choose another kind of image.
 */
export function show(name, error, { retry = null, text = "", subject = "", change = null, file = null, files = file ? [file] : [] } = {}) {
  const problem = toProblem(error);
  const path = svg("path", { d: WARNING_SIGN, fill: "none", stroke: "currentColor", "stroke-width": 1.8, "stroke-linejoin": "round", "stroke-linecap": "round" });
  const act = (action) => () => { remove(item); action(); };
  const item = make("li", { class: "rejection" },
    svg("svg", { viewBox: "0 0 24 24", width: 22, height: 22, "aria-hidden": "true" }, path),
    make("div", {}, make("h3", {}, file ? thumbnailOf(file) : null, name), describe(problem, subject)),
    make("div", { class: "row" },
      change && isUnfit(problem) ? button("Choose another kind of image", act(change)) : null,
      retry && (text || problem.canRetry) ? delayed(button(text || "Try again", act(retry)), text ? 0 : problem.retryAfter) : null,
      button("Dismiss", () => remove(item), { "aria-label": `Dismiss ${name}` })));
  byId("rejection-list").append(item);
  rejected.set(item, files);
  update();
  alertReader(`${name}${subject ? " could not be analysed." : ":"} ${problem.message}`);
  return item;
}

const isSame = (one, other) => one === other || (pathOf(one) === pathOf(other) && one.size === other.size && one.lastModified === other.lastModified);

/** Remove the problems of files, dropped again or not, which have results now. */
export function settle(...files) {
  for (const item of document.querySelectorAll(".rejection")) {
    const own = rejected.get(item) ?? [];
    if (own.length === 0 || !own.every((one) => files.some((other) => isSame(one, other)))) continue;
    if (item.contains(document.activeElement)) remove(item);
    else item.remove();
  }
  update();
}

/** Move the rejections that are shown to one line, which opens: what follows is about other files. */
export function collapse() {
  const list = byId("rejection-list");
  if (list.childElementCount === 0) return;
  const hadFocus = list.contains(document.activeElement);
  byId("earlier-list").prepend(...list.children);
  byId("earlier").open = false;
  update();
  if (hadFocus) byId("earlier-count").focus();
}

/** Show the lists that are not empty. */
function update() {
  const [current, earlier] = ["rejection-list", "earlier-list"].map((id) => byId(id).childElementCount);
  byId("rejections").hidden = current + earlier === 0;
  byId("rejections").classList.toggle("past", current === 0);
  byId("earlier").hidden = earlier === 0;
  byId("earlier-count").textContent = counted(earlier, "earlier problem");
}

/** Enable a button after some seconds, which its text counts down. */
function delayed(control, seconds) {
  if (seconds <= 0) return control;
  const { textContent: text } = control;
  const end = Date.now() + 1000 * seconds;
  const count = () => {
    const left = Math.ceil((end - Date.now()) / 1000);
    control.disabled = left > 0;
    control.textContent = left > 0 ? `${text} in ${left} s` : text;
    if (left > 0) setTimeout(count, 250);
  };
  count();
  return control;
}

function remove(item) {
  const next = item.nextElementSibling ?? item.previousElementSibling;
  item.remove();
  update();
  (next?.querySelector("button") ?? byId("results-heading")).focus();
}

function clear() {
  for (const id of ["rejection-list", "earlier-list"]) byId(id).replaceChildren();
  update();
  byId("results-heading").focus();
}

/** Install the listeners. */
export function install() {
  byId("dismiss-all").addEventListener("click", clear);
}
