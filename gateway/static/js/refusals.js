// What was not answered: a region of its own, before the results and never among them.

import { Refusal } from "./api.js";
import { button, byId, make, warn } from "./dom.js";

const CROSS = "M12 3 2.5 20h19L12 3zm0 6v5m0 3v.5";

function sign() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [name, value] of Object.entries({ viewBox: "0 0 24 24", width: 22, height: 22, "aria-hidden": "true" })) svg.setAttribute(name, value);
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  for (const [name, value] of Object.entries({ d: CROSS, fill: "none", stroke: "currentColor", "stroke-width": 1.8, "stroke-linejoin": "round", "stroke-linecap": "round" })) path.setAttribute(name, value);
  svg.append(path);
  return svg;
}

/** Describe an error; a fault of this page is one too. */
export function described(error) {
  if (error instanceof Refusal) return error;
  console.error(error);
  return new Refusal({
    title: "Fault of this page",
    detail: `It could not go on (${error?.name ?? "error"}). Load the page anew; if it lasts, tell its operator.`,
  });
}

/** Show what went wrong with something, and what to do about it. */
export function show(name, error, again = null) {
  const problem = described(error);
  const item = make("li", { class: "refusal" }, sign(), make("div", {},
    make("h3", {}, name),
    make("p", { class: "why" }, make("strong", {}, `Not answered: ${problem.title}.`), " ", problem.message),
    make("p", { class: "small" }, [
      problem.status ? `Status ${problem.status}` : null, problem.requestId ? `request ${problem.requestId}` : null,
    ].filter(Boolean).join(", "))),
  make("div", { class: "row" },
    again && problem.passing ? button("Try again", () => { remove(item); again(); }) : null,
    button("Dismiss", () => remove(item), { "aria-label": `Dismiss ${name}` })));
  byId("refusal-list").append(item);
  byId("refusals").hidden = false;
  warn(`${name} was not answered. ${problem.title}. ${problem.message}`);
}

function remove(item) {
  const next = item.nextElementSibling ?? item.previousElementSibling;
  item.remove();
  if (next) next.querySelector("button").focus();
  else clear();
}

function clear() {
  byId("refusal-list").replaceChildren();
  byId("refusals").hidden = true;
  byId("results-heading").focus();
}

/** Prepare the region. */
export function install() {
  byId("dismiss-all").addEventListener("click", clear);
}
