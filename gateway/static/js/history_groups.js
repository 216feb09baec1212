// One row for the results of one request, such as the slices of a series; it opens to the row of each.

import { archiveVersion } from "./catalog.js";
import { button, make } from "./dom.js";
import { counted, localTime } from "./format.js";
import { seriesAddress } from "./history_address.js";
import { cell, followOnClick, originCells, row } from "./history_row.js";
import { doubtOf, isMostlyMissing, tally } from "./series_rejections.js";

/** Return the entries of each request together, in lists. */
export const groupEntries = (entries) => [...Map.groupBy(entries, ({ group_id: group, id }) => group ?? id).values()];

/** Return what the results of one request say together: a `text`, the `look` of its tag, and `notes` on those without a finding. */
export function summarize(entries) {
  const isMask = entries[0].probability === null;
  const { total, positive, doubtful, uncertain, reason } = tally(entries, thingOf(entries), isMask);
  const size = sizeOf(entries);
  const missing = size - entries.length;
  const absent = missing ? [`${missing} of ${size} rejected or deleted`] : [];
  if (missing && isMostlyMissing(missing, size)) return noResult(absent[0]);
  if (reason) return noResult(reason, absent);
  const notes = [...[doubtful, uncertain].filter(({ length }) => length > 0).map((kind) => `${kind.length} ${doubtOf(kind)}, not counted`), ...absent];
  if (entries.every((entry) => entry.positive === null)) return { text: counted(total, "result"), look: "tag", notes };
  return { text: `${isMask ? "Marked" : "Above the cut-off"} on ${positive} of ${total}`, look: positive ? "tag marked" : "tag", notes };
}

const noResult = (reason, notes = []) => ({ text: `No result: ${reason}`, look: "tag uncertain", notes });
const sizeOf = (entries) => entries[0].group_size ?? entries.length;
const thingOf = ([{ probability }]) => (probability === null ? "slice" : "image");

/**
 * Return the rows of a page of entries. `matching` has the ids of those that match the filters, null if all do.
 *
 * `open(id)` is called before a row is opened, `remove(entries, row, button)` deletes entries.
 */
export const rowsOf = (entries, matching, actions) => groupEntries(entries).flatMap((group) =>
  (sizeOf(group) === 1 ? [row(group[0], actions)] : foldedRows(group, matching && new Set(matching), actions)));

function foldedRows(group, matching, actions) {
  const sorted = group.toSorted((one, other) => (one.id < other.id ? -1 : 1)); // as sent: ids increase; the list has the newest first
  const matches = matching ? sorted.filter(({ id }) => matching.has(id)) : sorted;
  const isPart = matches.length < sorted.length;
  const rows = sorted.map((entry, index) => sliceRow(entry, `${(entry.group_index ?? index) + 1} of ${sizeOf(sorted)}: `, isPart && matches.includes(entry), actions));
  return [headRow(sorted, rows, isPart ? matches.length : null, actions), ...rows];
}

/** Return the row of one result of a request, which is hidden until that of the request is opened. */
function sliceRow(entry, place, isMatch, actions) {
  const line = row(entry, actions);
  line.hidden = true;
  line.classList.add("slice-row");
  line.querySelector(".file").prepend(place);
  if (isMatch) line.querySelector(".what").append(make("div", { class: "small" }, "Matches the filters"));
  return line;
}

/** Return the row of a request; `matches` is the number of its results that match the filters, null if all do. */
function headRow(entries, rows, matches, { open, remove }) {
  const [{ time, client, group_id: id }] = entries;
  const { text, look, notes } = summarize(entries);
  const [size, things] = [sizeOf(entries), `${thingOf(entries)}s`];
  const match = matches === null ? [] : [`${matches} of ${entries.length} ${matches === 1 ? "matches" : "match"} the filters`];
  const link = id ? make("a", { class: "open", href: seriesAddress(id), "aria-label": `Open the ${size} ${things} of ${localTime(time)}${things === "slices" ? " as one series" : ""}`, on: { click: () => open(id) } }, "Open") : null;
  const head = make("tr", { role: "row", class: "group-row", "data-id": id },
    originCells(entries[0], archiveVersion(entries[0])),
    cell("what", make("span", { class: look }, text), [...notes, ...match].map((note) => make("div", { class: "small" }, note))),
    cell("number", "–"),
    cell("file", `${size} ${things} sent together`),
    cell("extra", client),
    cell("act", link, toggleOf(rows), button(entries.length === 1 ? "Delete" : "Delete all", ({ currentTarget }) => remove(entries, head, currentTarget), { class: "quiet", "aria-label": `Delete the ${counted(entries.length, "result")} of ${localTime(time)}` })));
  followOnClick(head, link);
  return head;
}

/** Return the button that shows or hides rows. */
function toggleOf(rows) {
  const what = rows.length === 1 ? "one" : `all ${rows.length}`;
  const toggle = button(`Show ${what}`, () => {
    const isOpen = toggle.getAttribute("aria-expanded") === "true";
    toggle.setAttribute("aria-expanded", String(!isOpen));
    toggle.textContent = `${isOpen ? "Show" : "Hide"} ${what}`;
    for (const line of rows) line.hidden = isOpen;
  }, { class: "quiet", "aria-expanded": "false" });
  return toggle;
}

/** Open the row of the request that a hidden row is of. */
export function openGroup(line) {
  let head = line;
  while (!head.matches(".group-row")) head = head.previousElementSibling;
  head.querySelector("button").click();
}
