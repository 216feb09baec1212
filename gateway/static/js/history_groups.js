// One row for the results of one request, such as the slices of a series; it opens to the row of each.

import { archiveVersion } from "./catalog.js";
import { displayName } from "./display.js";
import { doubtText, isDoubtful } from "./domain.js";
import { button, make } from "./dom.js";
import { isUncertain, localTime } from "./format.js";
import { seriesAddress } from "./history_address.js";

/** Return consecutive entries of one request together, in lists. */
export function groupEntries(entries) {
  const groups = [];
  for (const entry of entries) {
    if (groups.length && isSameRequest(groups.at(-1).at(-1), entry)) groups.at(-1).push(entry);
    else groups.push([entry]);
  }
  return groups;
}

const isSameRequest = (one, other) => (one.group_id ? one.group_id === other.group_id : Boolean(one.request_id)
  && ["request_id", "time", "model", "version", "client", "verb"].every((name) => one[name] === other[name]));

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
  const notes = kinds.map((kind) => `${kind.length} ${reasonOf(kind)}`);
  if (entries.every((entry) => entry.positive === null)) return { text: `${entries.length} results`, look: "tag", notes };
  const positive = counted.filter((entry) => entry.positive).length;
  const inDoubt = without.filter((entry) => entry.positive);
  if (positive === 0 && inDoubt.length > 0) return noFinding(`${inDoubt.length} ${isMask ? "marked" : "above the cut-off"}, but ${reasonOf(inDoubt)}`);
  const text = `${isMask ? "Marked" : "Above the cut-off"} on ${positive} of ${counted.length}${notes.length ? " with a finding" : ""}`;
  return { text, look: positive ? "tag marked" : "tag", notes };
}

const noFinding = (reason) => ({ text: `No finding: ${reason}`, look: "tag uncertain", notes: [] });

/**
 * Return the rows of a page of entries; `row(entry)` makes that of one.
 *
 * `open(id)` is called before a row is opened. `isFirst` and `isLast` say whether no page comes before or after it. Of a filtered list, nothing is summarised.
 */
export function rowsOf(entries, row, { isFirst, isLast, isFiltered, open }) {
  return groupEntries(entries).flatMap((group) => {
    if (group.length === 1) return [row(group[0])];
    const isPart = (!isFirst && group[0] === entries[0]) || (!isLast && group.at(-1) === entries.at(-1));
    return foldedRows(group, row, { isPart, isFiltered, open });
  });
}

function foldedRows(group, row, { isPart, isFiltered, open }) {
  // As sent: ids increase. The list has the newest first.
  const rows = group.toSorted((one, other) => (one.id < other.id ? -1 : 1)).map(row);
  rows.forEach((line, index) => {
    line.hidden = true;
    line.classList.add("slice-row");
    if (!isPart && !isFiltered) line.querySelector(".file").prepend(`${index + 1} of ${group.length}: `);
  });
  const [{ time, model, version, client, group_id: id, group_size: size }] = group;
  const known = archiveVersion(group[0]);
  const { text, look, notes } = isFiltered ? { text: `${group.length} matching results`, look: "tag", notes: [] } : summarize(group);
  const isWhole = !isPart && !isFiltered;
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
    cell("what", make("span", { class: look }, text), [...notes, isPart && !isFiltered ? "On this page only" : []].flat().map((note) => make("div", { class: "small" }, note))),
    cell("number", "–"),
    cell("file", isWhole ? `${group.length} ${things} sent together` : `${group.length} of this request ${isPart ? "on this page" : "match"}`, isPart ? make("div", { class: "small" }, "Others may be on a neighbouring page") : null),
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
