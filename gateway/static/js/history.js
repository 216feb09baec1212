// The results that the server keeps: filter, pages, deletion, CSV.

import { get } from "./api.js";
import { button, byId, make, save, say, warn } from "./dom.js";
import { all } from "./models.js";
import { described } from "./refusals.js";
import { moment, percent } from "./words.js";

const DAY = 24 * 3600 * 1000;
const cursors = [null];

/** What the filter asks for. */
function query() {
  const found = new URLSearchParams();
  const put = (name, value) => value && found.set(name, value);
  put("model", byId("filter-model").value);
  put("label", byId("filter-label").value);
  put("text", byId("filter-text").value.trim());
  put("since", day("filter-since", 0));
  put("until", day("filter-until", DAY));
  return found;
}

/** Midnight of a chosen day, here; the last day counts to its end. */
function day(id, later) {
  const { value } = byId(id);
  if (!value) return "";
  const start = new Date(`${value}T00:00`);
  if (later) start.setDate(start.getDate() + 1);
  return start.toISOString();
}

/** Show a page, the newest by default. */
export async function open() {
  choices();
  cursors.splice(0, cursors.length, null);
  await turn();
}

function choices() {
  const fill = (id, values) => {
    const select = byId(id);
    const { value } = select;
    select.replaceChildren(make("option", { value: "" }, "All"), ...values.map((item) => make("option", { value: item }, item)));
    select.value = values.includes(value) ? value : "";
  };
  fill("filter-model", all().map(({ name }) => name));
  fill("filter-label", [...new Set(all().flatMap(({ versions }) => versions.flatMap(({ labels }) => labels)))].sort());
}

async function turn() {
  const asked = query();
  const cursor = cursors.at(-1);
  if (cursor !== null) asked.set("cursor", cursor);
  await attempt(async () => {
    const { results, next } = await (await get(`api/results?${asked}`)).json();
    byId("history-rows").replaceChildren(...results.map(row));
    if (results.length === 0) byId("history-rows").append(make("tr", { role: "row" }, make("td", { role: "cell", colspan: 7, class: "nothing" }, "No results.")));
    byId("newer").disabled = cursors.length === 1;
    byId("older").disabled = next === null;
    byId("older").dataset.next = next ?? "";
    byId("page-count").textContent = results.length ? `Page ${cursors.length}` : "";
    byId("history-body").hidden = false;
    byId("csv").hidden = false;
    byId("history-note").hidden = true;
    say(`${results.length} results on page ${cursors.length}.`);
  });
}

/** Do something; what goes wrong is said above the table, and no old rows stay as if they were an answer. */
async function attempt(action) {
  const region = byId("history-problem");
  region.hidden = true;
  try {
    await action();
  } catch (error) {
    const problem = described(error);
    if (problem.status === 404) {
      byId("history-body").hidden = true;
      byId("csv").hidden = true;
      byId("history-note").hidden = false;
      byId("history-note").textContent = "This server keeps no history of results.";
      return;
    }
    byId("history-rows").replaceChildren();
    region.replaceChildren(make("p", {}, make("strong", {}, `${problem.title}. `), problem.message), button("Try again", () => turn()));
    region.hidden = false;
    warn(`${problem.title}. ${problem.message}`);
  }
}

function row(result) {
  const name = result.filename ?? "";
  // A narrow page lays rows out as blocks, which would take their meaning from them: hence the roles.
  const cell = (kind, ...children) => make("td", { role: "cell", class: kind }, ...children);
  const line = make("tr", { role: "row" },
    cell("time", make("time", { datetime: result.time }, moment(result.time))),
    cell("model", `${result.model} ${result.version}`),
    cell("what", make("span", { class: result.positive ? "tag marked" : "tag" }, result.label)),
    cell("number", result.probability === null ? "–" : percent(result.probability)),
    cell("file", name || make("code", { title: `sha256 of the image: ${result.image_sha256}` }, result.image_sha256.slice(0, 12)),
      result.verb === "explanations" ? make("span", { class: "small" }, " with heat map") : null),
    cell("extra", result.client),
    cell("act", button("Delete", () => remove(result, line), { class: "quiet", "aria-label": `Delete the result of ${moment(result.time)}, ${result.label}` })));
  return line;
}

async function remove(result, line) {
  if (!confirm("Delete this result? It cannot be brought back.")) return;
  await attempt(async () => {
    await get(`api/results/${result.id}`, "application/json", "DELETE").catch((error) => {
      if (error.status !== 404) throw error; // gone already is gone
    });
    const next = line.nextElementSibling ?? line.previousElementSibling;
    line.remove();
    say("The result is deleted.");
    (next?.querySelector("button") ?? byId("history-heading")).focus();
  });
}

/** Listen to the filter and the pages. */
export function install() {
  const filter = byId("filter");
  filter.addEventListener("submit", (event) => {
    event.preventDefault();
    open();
  });
  filter.addEventListener("reset", () => setTimeout(open));
  byId("older").addEventListener("click", (event) => {
    cursors.push(event.currentTarget.dataset.next);
    turn();
  });
  byId("newer").addEventListener("click", () => {
    cursors.pop();
    turn();
  });
  byId("csv").addEventListener("click", () => attempt(async () => {
    save(await (await get(`api/results.csv?${query()}`, "text/csv")).blob(), "results.csv");
  }));
}
