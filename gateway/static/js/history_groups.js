// One row for the results of one request, such as the slices of a series; it opens to the row of each.

import { archiveVersion } from "./catalog.js";
import { displayName } from "./display.js";
import { doubtText, isDoubtful } from "./domain.js";
import { button, make } from "./dom.js";
import { isUncertain, localTime } from "./format.js";
import { seriesAddress } from "./history_address.js";

/** Return the entries of each request together, in lists. */
export const groupEntries = (entries) => [...Map.groupBy(entries, ({ group_id: group, id }) => group ?? id).values()];

const isDoubtfulEntry = ({ domain }) => isDoubtful({ status: domain });
const isUncertainEntry = (entry) => !isDoubtfulEntry(entry) && isUncertain({ certainty: { status: entry.certainty } });

/** Return why entries have no finding: "unusual or uncertain". */
function reasonOf(entries) {
  const doubt = doubtText(entries.map(({ domain }) => domain));
  return [doubt, entries.some(isUncertainEntry) ? "uncertain" : ""].filter(Boolean).join(" or ");
}

/** Return what the results of one request say together: a `text`, the `look` of its tag, and `notes` on those without a finding. */
export function summarize(entries) {
  const without = entries.filter((entry) => isDoubtfulEntry(entry) || isUncertainEntry(entry));
  const counted = entries.filter((entry) => !without.includes(entry));
  const isMask = entries[0].probability === null;
  if (counted.length === 0) return noFinding(`all ${isMask ? "slices" : "images"} are ${reasonOf(without)}`);
  const kinds = [without.filter(isDoubtfulEntry), without.filter(isUncertainEntry)].filter(({ length }) => length > 0);
  const notes = kinds.map((kind) => `${kind.length} ${reasonOf(kind)}, not counted`);
  if (entries.every((entry) => entry.positive === null)) return { text: `${entries.length} results`, look: "tag", notes };
  const positive = counted.filter((entry) => entry.positive).length;
  const inDoubt = without.filter((entry) => entry.positive);
  if (positive === 0 && inDoubt.length > 0) return noFinding(`${inDoubt.length} ${isMask ? "marked" : "above the cut-off"}, but ${reasonOf(inDoubt)}`);
  const text = `${isMask ? "Marked" : "Above the cut-off"} on ${positive} of ${counted.length}`;
  return { text, look: positive ? "tag marked" : "tag", notes };
}

const noFinding = (reason) => ({ text: `No finding: ${reason}`, look: "tag uncertain", notes: [] });

/**
 * Return the rows of a page of entries; `row(entry)` makes that of one.
 *
 * `open(id)` is called before a row is opened. Of a filtered list, nothing is summarised: other results of a request may not match.
 */
export const rowsOf = (entries, row, { isFiltered, open }) => groupEntries(entries).flatMap((group) =>
  (group.length === 1 ? [row(group[0])] : foldedRows(group, row, { isFiltered, open })));

function foldedRows(group, row, { isFiltered, open }) {
  // As sent: ids increase. The list has the newest first.
  const sorted = group.toSorted((one, other) => (one.id < other.id ? -1 : 1));
  const [{ time, model, version, client, group_id: id, group_size }] = sorted;
  const size = group_size ?? group.length;
  const rows = sorted.map(row);
  rows.forEach((line, index) => {
    line.hidden = true;
    line.classList.add("slice-row");
    if (!isFiltered) line.querySelector(".file").prepend(`${(sorted[index].group_index ?? index) + 1} of ${size}: `);
  });
  const known = archiveVersion(group[0]);
  const { text, look, notes } = isFiltered ? { text: `${group.length} matching results`, look: "tag", notes: [] } : summarize(group);
  const things = group[0].probability === null ? "slices" : "images";
  const toggle = button(`Show all ${group.length}`, () => {
    const isOpen = toggle.getAttribute("aria-expanded") === "true";
    toggle.setAttribute("aria-expanded", String(!isOpen));
    toggle.textContent = isOpen ? `Show all ${group.length}` : `Hide all ${group.length}`;
    for (const line of rows) line.hidden = isOpen;
  }, { class: "quiet", "aria-expanded": "false" });
  const cell = (kind, ...children) => make("td", { role: "cell", class: kind }, ...children);
  const link = id ? make("a", { class: "open", href: seriesAddress(id), "aria-label": `Open the ${size} ${things} of ${localTime(time)}${things === "slices" ? " as one series" : ""}`, on: { click: () => open(id) } }, "Open") : null;
  const head = make("tr", { role: "row", class: "group-row", "data-id": id },
    cell("time", make("time", { datetime: time }, localTime(time))),
    cell("model", known ? make("div", {}, displayName(known, model)) : null, make("div", { class: "identifier" }, `${model} ${version}`)),
    cell("what", make("span", { class: look }, text), notes.map((note) => make("div", { class: "small" }, note))),
    cell("number", "–"),
    cell("file", isFiltered ? `${group.length} of this request match` : `${size} ${things} sent together`,
      !isFiltered && size > group.length ? make("div", { class: "small" }, `${size - group.length} rejected or deleted`) : null),
    cell("extra", client),
    cell("act", link, toggle));
  head.addEventListener("click", (event) => {
    if (!event.target.closest("a, button") && !getSelection().toString()) link?.click();
  });
  return [head, ...rows];
}

/** Open the row of the request that a hidden row is of. */
export function openGroup(line) {
  let head = line;
  while (!head.matches(".group-row")) head = head.previousElementSibling;
  head.querySelector("button").click();
}
