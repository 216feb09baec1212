// One row of the history, and what it says about a result.

import { archiveVersion } from "./catalog.js";
import { displayName, labelText } from "./display.js";
import { isDoubtful, noResult, repairText } from "./domain.js";
import { button, make } from "./dom.js";
import { isUncertain, localTime, percent, shortened } from "./format.js";
import { resultAddress } from "./history_address.js";
import { atPrevalence } from "./probabilities.js";
import { recentFile, recentName } from "./recent_files.js";
import { thumbnailOf } from "./thumbnails.js";

/** Return the `tag` of an entry, an element, its text (`what`), the model's output (`label`), and whether its probability may be shown. */
export function finding(entry) {
  const certainty = { status: entry.certainty };
  const doubtful = isDoubtful({ status: entry.domain });
  const uncertain = isUncertain({ certainty });
  const label = labelText({ ...entry, certainty, isMask: entry.probability === null }, archiveVersion(entry));
  const what = doubtful ? noResult(entry.domain) : label;
  const look = doubtful || uncertain ? "tag uncertain" : entry.positive ? "tag marked" : "tag";
  return { tag: make("span", { class: look }, what), what, label, isShown: entry.probability !== null && !uncertain && !doubtful };
}

/** Return a name of the image of an entry. */
export const imageName = ({ filename, image_sha256: sha256 }) => filename || `Image ${sha256.slice(0, 12)}`;

/** Return the probability of the positive label, as everywhere on the page; that of the label, if the model decides nothing. */
const positiveProbability = ({ positive, probability }, version) => (positive === false && (version?.labels.length ?? 2) === 2 ? 1 - probability : probability);

/** Return a cell. Narrow screens display rows as blocks, which would remove their table semantics: hence the roles. */
export const cell = (kind, ...children) => make("td", { role: "cell", class: kind }, ...children);

/** Return the cells of the time and the model of an entry; `version` is the catalog entry or null. */
export const originCells = (entry, version) => [
  cell("time", make("time", { datetime: entry.time }, localTime(entry.time))),
  cell("model", version ? make("div", {}, displayName(version, entry.model)) : null, make("div", { class: "identifier" }, `${entry.model} ${entry.version}`)),
];

/** Follow a link, if there is one, on a click anywhere in its row. */
export const followOnClick = (line, link) => line.addEventListener("click", (event) => {
  if (!event.target.closest("a, button") && !getSelection().toString()) link?.click();
});

/** Return the row of an entry; `open(id)` is called before it is opened, `remove(entries, row, button)` deletes it. */
export function row(entry, { open, remove }) {
  const version = archiveVersion(entry);
  const { tag, what, isShown } = finding(entry);
  const time = localTime(entry.time);
  const file = recentFile(entry.image_sha256);
  const name = entry.filename || recentName(entry.image_sha256);
  const link = make("a", { class: "open", href: resultAddress(entry.id), "aria-label": `Open the result of ${time}, ${what}`, on: { click: () => open(entry.id) } }, "Open");
  const line = make("tr", { role: "row", "data-id": entry.id },
    originCells(entry, version),
    cell("what", tag, notes(entry)),
    cell("number", isShown ? percent(positiveProbability(entry, version)) : "–", isShown ? make("div", { class: "small" }, `${version?.positive && version.labels.length === 2 ? `of ${version.positive}` : ""}${atPrevalence(entry)}`.trim()) : null),
    cell("file", file && !entry.group_id ? thumbnailOf(file) : null, name ? make("span", { title: name }, shortened(name)) : make("code", { title: `SHA-256 of the image: ${entry.image_sha256}` }, entry.image_sha256.slice(0, 12)),
      entry.explained ? make("span", { class: "small" }, " with heat map") : null),
    cell("extra", entry.client),
    cell("act", link, button("Delete", ({ currentTarget }) => remove([entry], line, currentTarget), { class: "quiet", "aria-label": `Delete the result of ${time}, ${what}` })));
  followOnClick(line, link);
  return line;
}

/** Return notes on an image that was not checked or was changed. */
function notes(entry) {
  const { domain, repair } = entry;
  const texts = [
    domain === "off" ? "Image not checked" : null,
    repair ? `Image ${repairText(repair)}` : null,
  ];
  return texts.filter(Boolean).map((text) => make("div", { class: "small" }, text));
}
