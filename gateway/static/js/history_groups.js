// One row for the results of one request, such as the slices of a series; it opens to the row of each.

import { archiveVersion } from "./catalog.js";
import { displayName } from "./display.js";
import { isDoubtful } from "./domain.js";
import { button, make } from "./dom.js";
import { isUncertain, localTime } from "./format.js";

/** Return consecutive entries of one request together, in lists. */
export function groupEntries(entries) {
  const groups = [];
  for (const entry of entries) {
    if (groups.length && isSameRequest(groups.at(-1).at(-1), entry)) groups.at(-1).push(entry);
    else groups.push([entry]);
  }
  return groups;
}

const isSameRequest = (one, other) => one.request_id !== ""
  && ["request_id", "time", "model", "version", "client", "verb"].every((name) => one[name] === other[name]);

/** Return what the results of one request say together: a `text`, and `notes` on those without a finding. */
export function summarize(entries) {
  const count = (isCounted) => entries.filter(isCounted).length;
  const doubtful = count(({ domain }) => isDoubtful({ status: domain }));
  const uncertain = count((entry) => !isDoubtful({ status: entry.domain }) && isUncertain({ certainty: { status: entry.certainty } }));
  const positive = count((entry) => entry.positive && !isDoubtful({ status: entry.domain }) && !isUncertain({ certainty: { status: entry.certainty } }));
  const isMask = entries[0].probability === null;
  const text = entries.every((entry) => entry.positive === null) ? `${entries.length} results`
    : `${isMask ? "Marked" : "Above the cut-off"} on ${positive} of ${entries.length}`;
  return { text, positive, notes: [doubtful ? `${doubtful} unlike the training images` : "", uncertain ? `${uncertain} uncertain` : ""].filter(Boolean) };
}

/** Return the rows of a page of entries; `row(entry)` makes that of one, `isFirst` and `isLast` say whether no page comes before or after it. */
export function rowsOf(entries, row, { isFirst, isLast }) {
  return groupEntries(entries).flatMap((group) => {
    if (group.length === 1) return [row(group[0])];
    const isPart = (!isFirst && group[0] === entries[0]) || (!isLast && group.at(-1) === entries.at(-1));
    return foldedRows(group, row, isPart);
  });
}

function foldedRows(group, row, isPart) {
  const rows = group.map(row);
  for (const line of rows) {
    line.hidden = true;
    line.classList.add("slice-row");
  }
  const [{ time, model, version, client }] = group;
  const known = archiveVersion(group[0]);
  const { text, positive, notes } = summarize(group);
  const toggle = button(`Show all ${group.length}`, () => {
    const isOpen = toggle.getAttribute("aria-expanded") === "true";
    toggle.setAttribute("aria-expanded", String(!isOpen));
    toggle.textContent = isOpen ? `Show all ${group.length}` : `Hide all ${group.length}`;
    for (const line of rows) line.hidden = isOpen;
  }, { class: "quiet", "aria-expanded": "false" });
  const cell = (kind, ...children) => make("td", { role: "cell", class: kind }, ...children);
  const head = make("tr", { role: "row", class: "group-row" },
    cell("time", make("time", { datetime: time }, localTime(time))),
    cell("model", known ? make("div", {}, displayName(known, model)) : null, make("div", { class: "identifier" }, `${model} ${version}`)),
    cell("what", make("span", { class: positive ? "tag marked" : "tag" }, text), notes.map((note) => make("div", { class: "small" }, note))),
    cell("number", "–"),
    cell("file", `${group.length} ${group[0].probability === null ? "slices" : "images"} sent together`, isPart ? make("div", { class: "small" }, "Others may be on a neighbouring page") : null),
    cell("extra", client),
    cell("act", toggle));
  return [head, ...rows];
}

/** Open the row of the request that a hidden row is of. */
export function openGroup(line) {
  let head = line;
  while (!head.matches(".group-row")) head = head.previousElementSibling;
  head.querySelector("button").click();
}
