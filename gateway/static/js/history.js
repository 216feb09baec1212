// History of results: filter, pages, deletion, CSV.

import { get } from "./api.js";
import { isDoubtful, repairText } from "./domain.js";
import { alertReader, announce, button, byId, make, save } from "./dom.js";
import { allModels, knownVersion } from "./catalog.js";
import { displayName } from "./display.js";
import { capitalize, isUncertain, labelText, localTime, percent } from "./format.js";
import { atPrevalence } from "./probabilities.js";
import { toProblem } from "./rejections.js";

const DOUBTS = { unusual: "Unusual image: do not rely on it", unlike: "Unlike the training images: do not rely on it" };
const cursors = [null]; // of the pages up to the current one

/** Return the query parameters of the filter. */
function query() {
  const parameters = new URLSearchParams();
  const set = (name, value) => value && parameters.set(name, value);
  set("model", byId("filter-model").value);
  set("label", byId("filter-label").value);
  set("text", byId("filter-text").value.trim());
  set("since", midnight("filter-since", 0));
  set("until", midnight("filter-until", 1)); // the last day counts to its end
  return parameters;
}

/** Return local midnight of a date input, plus a number of days. */
function midnight(id, days) {
  const { value } = byId(id);
  if (!value) return "";
  const start = new Date(`${value}T00:00`);
  start.setDate(start.getDate() + days);
  return start.toISOString();
}

/** Show the newest results. */
export async function open() {
  const models = allModels();
  setOptions("filter-model", models.map(({ name, versions }) => [name, displayName(versions[0], name)]));
  const labels = [...new Set(models.flatMap(({ versions }) => versions.flatMap((version) => version.labels)))].sort();
  setOptions("filter-label", labels.map((label) => [label, capitalize(label)]));
  cursors.splice(0, cursors.length, null);
  await showPage();
}

function setOptions(id, options) {
  const select = byId(id);
  const { value: selected } = select;
  select.replaceChildren(make("option", { value: "" }, "All"), ...options.map(([value, text]) => make("option", { value }, text)));
  select.value = options.some(([value]) => value === selected) ? selected : "";
}

async function showPage() {
  const parameters = query();
  const isFiltered = parameters.size > 0;
  const cursor = cursors.at(-1);
  if (cursor !== null) parameters.set("cursor", cursor);
  await attempt(async () => {
    const { results, next } = await (await get(`api/results?${parameters}`)).json();
    byId("history-rows").replaceChildren(...results.map(row));
    if (results.length === 0) {
      const text = isFiltered ? "No results match these filters." : "No results yet.";
      byId("history-rows").append(make("tr", { role: "row" }, make("td", { role: "cell", colspan: 7, class: "nothing" }, text)));
    }
    byId("newer").disabled = cursors.length === 1;
    byId("older").disabled = next === null;
    byId("older").dataset.next = next ?? "";
    byId("page-count").textContent = results.length ? `Page ${cursors.length}` : "";
    showTable(true);
    announce(`${results.length} results on page ${cursors.length}.`);
  });
}

function showTable(visible) {
  byId("history-body").hidden = !visible;
  byId("csv").hidden = !visible;
  byId("history-note").hidden = visible;
}

/** Run an action; a failure replaces the rows, so that old ones cannot be taken for the response. */
async function attempt(action) {
  const region = byId("history-problem");
  region.hidden = true;
  try {
    await action();
  } catch (error) {
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

function row(result) {
  const version = knownVersion(result.model, result.version);
  const certainty = { status: result.certainty };
  const doubtful = isDoubtful({ status: result.domain });
  const isShown = result.probability !== null && !isUncertain({ certainty }) && !doubtful;
  const label = labelText({ ...result, certainty, isMask: result.probability === null }, version);
  const look = doubtful || isUncertain({ certainty }) ? "tag uncertain" : result.positive ? "tag marked" : "tag";
  const what = doubtful ? DOUBTS[result.domain] : label;
  // Narrow screens display rows as blocks, which would remove their table semantics: hence the roles.
  const cell = (kind, ...children) => make("td", { role: "cell", class: kind }, ...children);
  const line = make("tr", { role: "row" },
    cell("time", make("time", { datetime: result.time }, localTime(result.time))),
    cell("model", version ? make("div", {}, displayName(version, result.model)) : null, make("div", { class: "identifier" }, `${result.model} ${result.version}`)),
    cell("what", make("span", { class: look }, what), notes(result, label)),
    cell("number", isShown ? percent(result.probability) : "–", isShown ? make("div", { class: "small" }, atPrevalence(result).trim()) : null),
    cell("file", result.filename || make("code", { title: `SHA-256 of the image: ${result.image_sha256}` }, result.image_sha256.slice(0, 12)),
      result.verb === "explanations" ? make("span", { class: "small" }, " with heat map") : null),
    cell("extra", result.client),
    cell("act", button("Delete", () => remove(result, line), { class: "quiet", "aria-label": `Delete the result of ${localTime(result.time)}, ${what}` })));
  return line;
}

/** Say what limits a result: an image that was not checked, or that was changed. Without a finding, say what the model's output was. */
function notes({ domain, repair }, label) {
  const texts = [
    domain in DOUBTS ? `Model output: ${label}` : null,
    domain === "off" ? "Image not checked" : null,
    repair ? `Image ${repairText(repair)}` : null,
  ];
  return texts.filter(Boolean).map((text) => make("div", { class: "small" }, text));
}

async function remove(result, line) {
  if (!confirm("Delete this result? This can't be undone.")) return;
  await attempt(async () => {
    await get(`api/results/${result.id}`, "application/json", "DELETE").catch((error) => {
      if (error.status !== 404) throw error; // already deleted
    });
    const next = line.nextElementSibling ?? line.previousElementSibling;
    line.remove();
    announce("Result deleted.");
    (next?.querySelector("button") ?? byId("history-heading")).focus();
  });
}

/** Install the listeners. */
export function install() {
  const filter = byId("filter");
  filter.addEventListener("submit", (event) => {
    event.preventDefault();
    open();
  });
  filter.addEventListener("reset", () => setTimeout(open));
  byId("older").addEventListener("click", (event) => {
    cursors.push(event.currentTarget.dataset.next);
    showPage();
  });
  byId("newer").addEventListener("click", () => {
    cursors.pop();
    showPage();
  });
  byId("csv").addEventListener("click", () => attempt(async () => {
    save(await (await get(`api/results.csv?${query()}`, "text/csv")).blob(), "results.csv");
  }));
}
