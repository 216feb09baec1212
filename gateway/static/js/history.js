// History of results: filter, pages, deletion, CSV. The address has the filters and the page.

import { get } from "./api.js";
import { allModels } from "./catalog.js";
import { alertReader, announce, button, byId, make, save } from "./dom.js";
import { counted } from "./format.js";
import { apiQuery, listAddress, parseAddress } from "./history_address.js";
import { deleteResults } from "./history_delete.js";
import { install as installFilters, showFilters, showOptions } from "./history_filters.js";
import { groupEntries, openGroup, rowsOf } from "./history_groups.js";
import { closeOpened, showOpened } from "./history_result.js";
import { toProblem } from "./rejections.js";

const NAMES = ["version", "sha256", "task", "labels", "positive", "title", "display", "threshold", "prevalence", "profile"];
let address = parseAddress(""); // of the page that is shown
let left = null; // the row that was opened, and where the list was scrolled
let named = ""; // the names of what is shown; null while a result is loaded
let pageNumber = 0; // counts requests, so that only the latest one is shown

/** Show what the address names; `isNew` moves the focus. */
export async function open({ isNew = false } = {}) {
  const requested = parseAddress(location.hash);
  const { hash } = location;
  const { state } = window.history;
  closeOpened();
  const isOpened = requested.ids.length > 0 || requested.group !== null;
  byId("view-history").classList.toggle("one", isOpened);
  if (isOpened) {
    named = null;
    await showOpened(requested, { isNew, back });
    if (location.hash === hash) named = names();
    return;
  }
  address = requested;
  showFilters(address.filters);
  if (isNew && !state?.id) byId("history-heading").focus();
  await showPage();
  if (state?.id && location.hash === hash) restore(state);
}

/** Return what the list takes from the catalog; "[]" before it is loaded. */
const names = () => JSON.stringify(allModels().map(({ name, versions }) => [name, versions.map((entry) => NAMES.map((key) => entry[key] ?? null))]));

/** Show the list again if the catalog has other names; a result only if it was opened before there was a catalog. */
export function update() {
  const { hidden, classList } = byId("view-history");
  if (hidden || named === null || names() === named) return;
  if (classList.contains("one")) {
    if (named === "[]") open();
    return;
  }
  showOptions();
  showPage();
}

/** Release what is open: another view is shown. */
export const leave = closeOpened;

/** Show the list as it was left. */
function back() {
  window.history.pushState(left, "", listAddress(address.filters, address.cursors));
  return open({ isNew: true });
}

/** Return to the row that was opened. */
function restore({ id, scroll }) {
  visibleRow(id)?.querySelector("a").focus({ preventScroll: true });
  scrollTo(0, scroll);
}

/** Return the row of a result, whose group is opened; null if the page has none. */
function visibleRow(id) {
  const line = byId("history-rows").querySelector(`[data-id="${CSS.escape(id)}"]`);
  if (line?.hidden) openGroup(line);
  return line;
}

/** Show a page, with its own entry in the history of the browser. */
async function visit(filters, cursors = []) {
  const target = listAddress(filters, cursors);
  if (target !== location.hash) window.history.pushState(null, "", target);
  address = parseAddress(target);
  showFilters(address.filters);
  await showPage();
}

async function showPage() {
  const { filters, cursors } = address;
  named = names();
  const number = (pageNumber += 1);
  const parameters = apiQuery(filters);
  const isFiltered = parameters.size > 0;
  parameters.set("count", "requests");
  if (cursors.length > 0) parameters.set("cursor", cursors.at(-1));
  const isLatest = () => number === pageNumber;
  await attempt(async () => {
    const { results, next, matching, keeps_names: keepsNames } = await (await get(`api/results?${parameters}`)).json();
    if (!isLatest()) return;
    if (results.length === 0 && cursors.length > 0) { // all of the page were deleted
      address = { ...address, cursors: cursors.slice(0, -1) };
      window.history.replaceState(null, "", listAddress(filters, address.cursors));
      await showPage();
      return;
    }
    byId("history-rows").replaceChildren(...rowsOf(results, matching, { open: remember, remove }));
    byId("names-note").hidden = keepsNames !== false;
    if (results.length === 0) {
      const text = isFiltered ? "No results match these filters." : "No results yet.";
      byId("history-rows").append(make("tr", { role: "row" }, make("td", { role: "cell", colspan: 7, class: "nothing" }, text)));
    }
    byId("newer").disabled = cursors.length === 0;
    byId("older").disabled = next === null;
    byId("older").dataset.next = next ?? "";
    byId("page-count").textContent = results.length ? `Page ${cursors.length + 1}` : "";
    showTable(true);
    announce(`${counted(groupEntries(results).length, "entry", "entries")} on page ${cursors.length + 1}.`);
  }, isLatest);
}

/** Remember with the address which row is opened, and where the list is scrolled. */
function remember(id) {
  left = { id, scroll: scrollY };
  window.history.replaceState(left, "");
}

function showTable(visible) {
  byId("history-body").hidden = !visible;
  byId("csv").hidden = !visible;
  byId("history-note").hidden = visible;
}

/** Run an action; a failure replaces the rows, so that old ones cannot be taken for the response, unless it is not `isCurrent` any more. */
async function attempt(action, isCurrent = () => true) {
  const region = byId("history-problem");
  region.hidden = true;
  try {
    await action();
  } catch (error) {
    if (!isCurrent()) return;
    const problem = toProblem(error);
    if (problem.status === 404) {
      showTable(false);
      return;
    }
    byId("history-rows").replaceChildren();
    region.replaceChildren(make("p", {}, make("strong", {}, problem.message)),
      problem.detail ? make("p", { class: "small" }, `Details: ${problem.detail}`) : "", problem.canRetry ? button("Try again", () => showPage()) : "");
    region.hidden = false;
    alertReader(problem.message);
  }
}

/** Delete the results of a row, and focus it if some remain, else the next one. */
async function remove(entries, line, control) {
  const text = await deleteResults(entries, control);
  if (!text) return;
  const next = neighbour(line)?.dataset.id;
  await showPage();
  const row = visibleRow(line.dataset.id) ?? (next ? visibleRow(next) : null);
  (row?.querySelector("button") ?? byId("history-heading")).focus();
  announce(text);
}

/** Return the row after another one of its kind, or the row before. */
function neighbour(line) {
  const isSlice = line.matches(".slice-row");
  const rows = [...byId("history-rows").children].filter((row) => isSlice || !row.matches(".slice-row"));
  const [before, after] = [-1, 1].map((step) => rows[rows.indexOf(line) + step]);
  return isSlice && !after?.matches(".slice-row") ? before : after ?? before;
}

/** Install the listeners. */
export function install() {
  installFilters(visit, () => address.filters);
  byId("older").addEventListener("click", (event) => visit(address.filters, [...address.cursors, event.currentTarget.dataset.next]));
  byId("newer").addEventListener("click", () => visit(address.filters, address.cursors.slice(0, -1)));
  byId("csv").addEventListener("click", () => attempt(async () => {
    save(await (await get(`api/results.csv?${apiQuery(address.filters)}`, "text/csv")).blob(), "results.csv");
  }));
}
