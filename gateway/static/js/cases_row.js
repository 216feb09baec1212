// One row of the cases of the PACS loop.

import { button, make } from "./dom.js";
import { counted, localTime } from "./format.js";

/** States of a case, as the page names them. */
export const STATES = {
  received: "Waiting", predicting: "In analysis", storing: "Result on its way", done: "Done", rejected: "Not analysed", dead: "Failed",
};
const LOOKS = { dead: "tag failed", rejected: "tag uncertain" };

/** Return what happened in words: why it was not processed, and how often it was tried. */
export function explanation({ state, reason, attempts, next }) {
  const isWaiting = next !== null && attempts > 0;
  const tries = attempts && state !== "done" ? `Failed ${counted(attempts, "time")}${isWaiting ? `; next try ${localTime(next)}` : ""}.` : "";
  return [reason, tries].filter(Boolean);
}

/** Return the row of a case; `resend` returns a failed one to the queue. */
export function row(entry, resend) {
  const { id, time, changed, state, rule, model, version, study, series, instance } = entry;
  // Narrow screens display rows as blocks, which would remove their table semantics: hence the roles.
  const cell = (kind, ...children) => make("td", { role: "cell", class: kind }, ...children);
  const uid = (name, value) => make("div", { class: "identifier" }, `${name} ${value || "unknown"}`);
  return make("tr", { role: "row", "data-id": id },
    cell("time", make("time", { datetime: time, title: `Case ${id}, changed ${localTime(changed)}` }, localTime(time))),
    cell("what", make("span", { class: LOOKS[state] ?? "tag" }, STATES[state] ?? state), explanation(entry).map((text) => make("div", { class: "small" }, text))),
    cell("model", rule || "No rule", model ? make("div", { class: "identifier" }, `${model} ${version}`) : null),
    cell("uids", uid("Study", study), uid("Series", series), uid("Image", instance)),
    cell("act", state === "dead" ? button("Resend", resend, { "aria-label": `Resend case ${id}` }) : null));
}
