// What the user states about images that do not state it themselves, and what a result says about the model's scope.

import { announce, button, byId, make, terms } from "./dom.js";
import { uncapitalize } from "./format.js";

const FIELDS = ["age", "view"];
const SHOWN = 2; // attributes that the line names; its details have all
const NAMES = {
  age: "Age", species: "Species", modality: "Modality", body_part: "Body part", view: "View", orientation: "Orientation",
  laterality: "Laterality", presentation: "Presentation intent", polarity: "Polarity",
  prevalence: "Prevalence", sequences: "Sequences and their order",
};

/** Show the fields for the attributes that the selected model checks. */
export function showFields(scope) {
  for (const name of FIELDS) byId(`assure-${name}-field`).hidden = !scope.includes(name);
  byId("assurances").hidden = !FIELDS.some((name) => scope.includes(name));
}

/** Return the header of what the user states, empty without any, and clear the fields: the next file may be of another patient. */
export function takeAssurances() {
  const stated = FIELDS.filter((name) => !byId(`assure-${name}-field`).hidden && byId(`assure-${name}`).value !== "");
  const header = stated.map((name) => `${name}=${byId(`assure-${name}`).value}`).join(", ");
  for (const name of FIELDS) byId(`assure-${name}`).value = "";
  return header;
}

/** Say that what was stated holds for several files: they may be of several patients. */
export function noteShared(header, count) {
  if (header === "") return;
  const stated = header.split(", ").map((pair) => pair.split("=")).map(([name, value]) => `${NAMES[name]} ${value}`).join(", ");
  const text = `Stated for all ${count} files: ${stated}. Add the files of another patient separately.`;
  const note = make("div", { class: "notice", role: "group", "aria-label": "Stated for several files" }, make("p", {}, text), button("Dismiss", () => note.remove(), { class: "quiet" }));
  byId("batch").before(note);
  announce(text);
}

const listed = (names) => names.map((name) => NAMES[name] ?? name).join(", ");

/** Return what a reader must know about an image that is within the scope. */
export const imageNotes = ({ notes }) => (notes ?? []).map((note) => make("p", { class: "warning" }, make("strong", {}, "Note: "), note));

/** Say which attributes were read, which the user assured, and which are unknown. */
export function scopeTerms({ image, checked = [], unchecked = [], assurances: assured = null }) {
  if (checked.length + unchecked.length === 0 && assured === null) return null;
  return make("div", { class: "scope" }, terms([
    ["Checked in the file", listed(checked)],
    ["Assured by you", Object.entries(assured ?? {}).map(([name, value]) => `${NAMES[name] ?? name} ${value}`).join(", ")],
  ]), unchecked.length ? make("details", { class: "unchecked" }, make("summary", {}, uncheckedText(image.format, unchecked)),
    make("p", { class: "small" }, `Not checked: ${listed(unchecked)}. The result holds only if the image is within the model's scope.`)) : null);
}

/** Say in one line what a file does not state: "A PNG file does not state age, view …: check them yourself". */
function uncheckedText(format, unchecked) {
  const file = format === "dicom" ? "This DICOM file" : `${format === "npy" ? "An" : "A"} ${format.toUpperCase()} file`;
  const names = unchecked.map((name) => uncapitalize(NAMES[name] ?? name));
  return `${file} does not state ${names.slice(0, SHOWN).join(", ")}${names.length > SHOWN ? " …" : ""}: check ${names.length > 1 ? "them" : "it"} yourself`;
}
