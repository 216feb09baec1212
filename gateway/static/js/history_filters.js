// Filters of the history: the form, which narrow screens fold behind a button that counts the active ones.

import { allModels } from "./catalog.js";
import { displayName, labelName } from "./display.js";
import { button, byId, make } from "./dom.js";
import { FILTERS } from "./history_address.js";

const fields = () => FILTERS.filter((name) => byId(`filter-${name}`));
const toggle = button("Filters", () => fold(toggle.getAttribute("aria-expanded") === "true"), { id: "filter-toggle", "aria-controls": "filter", "aria-expanded": "false" });

/** Install the listeners; `visit(filters)` shows a filtered list, `current()` returns the filters that are shown. */
export function install(visit, current) {
  const filter = byId("filter");
  filter.before(toggle);
  fold(true);
  filter.addEventListener("submit", (event) => {
    event.preventDefault();
    fold(true);
    if (toggle.checkVisibility()) toggle.focus(); // the button that had the focus is hidden
    visit({ ...formFilters(), image: current().image ?? "" }); // the image is set by a link only
  });
  byId("filter-model").addEventListener("change", ({ target }) => showLabels(target.value, byId("filter-label").value));
  filter.addEventListener("reset", () => setTimeout(() => visit({})));
  byId("all-images").addEventListener("click", () => visit({ ...current(), image: "" }));
}

function fold(isFolded) {
  toggle.setAttribute("aria-expanded", String(!isFolded));
  byId("filter").classList.toggle("folded", isFolded);
}

const formFilters = () => Object.fromEntries(fields().map((name) => [name, byId(`filter-${name}`).value.trim()]));

/** Show filters in the form. */
export function showFilters({ model = "", label = "", ...others }) {
  showOptions(model, label);
  for (const name of fields().filter((item) => item !== "model" && item !== "label")) byId(`filter-${name}`).value = others[name] ?? "";
  byId("image-filter").hidden = !others.image;
  byId("image-filter-text").textContent = others.image ? `Only results of the image ${others.image.slice(0, 12)}.` : "";
  const active = Object.values(formFilters()).filter(Boolean).length;
  toggle.textContent = active ? `Filters (${active})` : "Filters";
}

/** Offer what the catalog has; the fields keep what they hold, unless it is stated. */
export function showOptions(model = byId("filter-model").value, label = byId("filter-label").value) {
  setOptions("filter-model", allModels().map(({ name, versions }) => [name, displayName(versions[0], name)]), model);
  showLabels(model, label);
}

/** Offer the labels and versions of a model; those of all models if none is chosen, or if it is not served any more. */
function showLabels(model, selected) {
  const named = allModels().filter(({ name }) => name === model);
  const models = named.length ? named : allModels();
  setOptions("filter-label", labelOptions(models), selected);
  const versions = models.flatMap((item) => item.versions.map(({ version }) => version));
  byId("filter-versions").replaceChildren(...[...new Set(versions)].map((value) => make("option", { value })));
}

/** Return the labels of models with their names; a label that models name differently has all of these names. */
function labelOptions(models) {
  const names = new Map();
  for (const version of models.flatMap(({ versions }) => versions)) {
    for (const label of version.labels) names.set(label, (names.get(label) ?? new Set()).add(labelName(label, version)));
  }
  return [...names].map(([label, set]) => [label, [...set].join(", ")]).sort(([, one], [, other]) => one.localeCompare(other));
}

/** Models and labels of the history may not be served any more, but an address can name them. */
function setOptions(id, options, selected) {
  const all = !selected || options.some(([value]) => value === selected) ? options : [...options, [selected, selected]];
  byId(id).replaceChildren(make("option", { value: "" }, "All"), ...all.map(([value, text]) => make("option", { value }, text)));
  byId(id).value = selected;
}
