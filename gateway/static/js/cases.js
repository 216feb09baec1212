// Cases of the PACS loop: state, why not processed, resending. The address has the filter: #cases?state=dead

import { get } from "./api.js";
import { STATES, row } from "./cases_row.js";
import { button, byId, make } from "./dom.js";
import { counted, localTime } from "./format.js";
import { toProblem } from "./rejections.js";

const PERIOD = 5_000;
const CONFIGURATION = 404; // no loop is connected
const ONCE = new Set([401, 403, CONFIGURATION, 422]); // repeating the request does not help

let cursors = []; // of the pages before
let next = null; // of the following page
let shown = ""; // what the rows show
let requests = 0; // so that only the latest one is shown
let timer = 0;

const isOpen = () => !byId("view-cases").hidden;
const filter = () => {
  const state = new URLSearchParams(location.hash.split("?")[1] ?? "").get("state");
  return Object.hasOwn(STATES, state) ? state : "";
};

/** Show the cases that the address names; `isNew` moves the focus. */
export function open({ isNew = false } = {}) {
  if (!byId("cases-heading")) build();
  byId("cases-message").hidden = true;
  cursors = [];
  if (isNew) byId("cases-heading").focus();
  return refresh();
}

/** Stop the refreshes: another view is shown. */
export const leave = () => clearTimeout(timer);

function build() {
  const heading = (text) => make("th", { role: "columnheader", scope: "col" }, text);
  byId("view-cases").append(
    make("div", { class: "section-head" },
      make("h1", { id: "cases-heading", tabindex: -1 }, "PACS cases"),
      make("span", { id: "cases-updated", class: "small" }),
      button("Resend all failed", ({ currentTarget }) => resend("api/cases/resend", currentTarget), { id: "cases-resend", hidden: true })),
    make("p", { id: "cases-message", class: "notice", role: "status", hidden: true }),
    make("div", { id: "cases-problem", class: "rejections", role: "alert", hidden: true }),
    make("div", { id: "cases-body", hidden: true },
      make("div", { class: "cases-filter" },
        make("label", { for: "cases-state" }, "State"),
        make("select", { id: "cases-state", on: { change: ({ target }) => choose(target.value) } }),
        make("p", { id: "cases-webhooks", class: "small" })),
      make("div", { class: "scroll", tabindex: 0, role: "region", "aria-labelledby": "cases-heading" },
        make("table", { role: "table", "aria-labelledby": "cases-heading" },
          make("thead", { role: "rowgroup" }, make("tr", { role: "row" },
            heading("Arrived"), heading("State"), heading("Rule"), heading("Image"), heading(make("span", { class: "visually-hidden" }, "Resend")))),
          make("tbody", { role: "rowgroup", id: "cases-rows" }))),
      make("nav", { class: "pages", "aria-label": "Pages of cases" },
        button("Newer", () => turn(cursors.slice(0, -1)), { id: "cases-newer" }),
        make("span", { id: "cases-page", class: "small" }),
        button("Older", () => turn(next === cursors.at(-1) ? cursors : [...cursors, next]), { id: "cases-older" }))));
  document.addEventListener("visibilitychange", () => { if (!document.hidden && isOpen()) refresh(); });
}

function choose(state) {
  window.history.replaceState(null, "", state ? `#cases?state=${state}` : "#cases");
  return turn([]);
}

function turn(pages) {
  byId("cases-message").hidden = true;
  cursors = pages;
  return refresh();
}

/** Load the page, and again after some seconds unless another view is shown or repeating does not help. */
async function refresh() {
  clearTimeout(timer);
  const number = (requests += 1);
  const parameters = new URLSearchParams();
  if (filter()) parameters.set("state", filter());
  if (cursors.length) parameters.set("after", cursors.at(-1));
  let problem = null;
  let page = null;
  try {
    page = await (await get(`api/cases?${parameters}`)).json();
  } catch (error) {
    problem = toProblem(error);
  }
  if (number !== requests || !isOpen()) return;
  if (page) show(page);
  showProblem(problem);
  if (!ONCE.has(problem?.status)) timer = setTimeout(() => { if (!document.hidden) refresh(); }, PERIOD);
}

function show({ cases, counts, webhooks, next: following }) {
  next = following;
  byId("cases-updated").textContent = `Updated ${localTime(new Date())}`;
  const text = JSON.stringify([cases, counts, webhooks, cursors, filter()]);
  if (text === shown) return;
  shown = text;
  showFilter(counts);
  const focused = document.activeElement?.closest("#cases-rows tr")?.dataset.id;
  const nothing = filter() ? "No cases in this state." : "No cases yet.";
  byId("cases-rows").replaceChildren(...cases.map((entry) => row(entry, ({ currentTarget }) => resend(`api/cases/${entry.id}/resend`, currentTarget))));
  if (!cases.length) byId("cases-rows").append(make("tr", { role: "row" }, make("td", { role: "cell", colspan: 5, class: "nothing" }, nothing)));
  if (focused) (byId("cases-rows").querySelector(`[data-id="${focused}"] button`) ?? byId("cases-heading")).focus();
  byId("cases-resend").hidden = !counts.dead;
  byId("cases-webhooks").textContent = webhooks ? `${counted(webhooks, "webhook message")} not delivered yet` : "";
  byId("cases-newer").disabled = !cursors.length;
  byId("cases-older").disabled = following === null;
  byId("cases-page").textContent = cases.length ? `Page ${cursors.length + 1}` : "";
}

function showFilter(counts) {
  const total = Object.values(counts).reduce((sum, number) => sum + number, 0);
  const options = [["", "All", total], ...Object.entries(STATES).map(([state, name]) => [state, name, counts[state] ?? 0])];
  byId("cases-state").replaceChildren(...options.map(([value, name, number]) => make("option", { value }, `${name} (${number})`)));
  byId("cases-state").value = filter();
}

/** Show a problem instead of the cases, so that old ones cannot be taken for the present. */
function showProblem(problem) {
  const region = byId("cases-problem");
  const hadFocus = byId("view-cases").contains(document.activeElement);
  const drawn = problem ? `${problem.status} ${problem.detail}` : "";
  byId("cases-body").hidden = problem !== null;
  byId("cases-updated").hidden = problem !== null;
  region.hidden = problem === null;
  region.className = problem?.status === CONFIGURATION ? "note" : "rejections";
  if (problem) {
    byId("cases-resend").hidden = true;
    shown = "";
  }
  if (region.dataset.drawn !== drawn) { // screen readers announce every change
    region.dataset.drawn = drawn;
    region.replaceChildren(...(problem ? describe(problem) : []));
  }
  if (hadFocus) keepFocus();
}

/** Focus the heading if what had the focus is gone. */
function keepFocus() {
  const { activeElement: focused } = document;
  if (focused === document.body || !focused.checkVisibility()) byId("cases-heading").focus();
}

function describe({ status, message, detail }) {
  if (status === CONFIGURATION) {
    const code = (text) => make("p", {}, make("code", {}, text));
    return [make("h2", {}, "No PACS loop is connected"),
      make("p", {}, "The loop sends images of a PACS to the models, and stores the results there. To see its cases here, add this to its settings:"),
      code("status: {address: 127.0.0.1:8095}"), make("p", {}, "and start this gateway with"), code("RADSERVE_GATEWAY_PACS=http://127.0.0.1:8095")];
  }
  const text = status === 403 ? "This page requires an access key with the role manage." : detail || message;
  return [make("h2", {}, "The cases cannot be shown"), make("p", {}, text), button("Try again", refresh)];
}

async function resend(path, control) {
  const region = byId("cases-message");
  control.disabled = true;
  try {
    const { resent } = await (await get(path, "application/json", "POST")).json();
    region.textContent = `${counted(resent, "case")} in the queue again.`;
  } catch (error) {
    const { detail, message } = toProblem(error);
    region.textContent = `Not sent again: ${detail || message}`;
  }
  region.hidden = false;
  control.disabled = false;
  if (document.activeElement === document.body) control.focus();
  await refresh();
  if (control.id && !control.hidden) region.textContent += " Those that still failed say why.";
  keepFocus();
}
