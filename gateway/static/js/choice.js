// Choice of what the images show: the model that reads them. This browser remembers it.

import { allModels, knownModel, knownVersion } from "./catalog.js";
import { displayName } from "./display.js";

const KEY = "radserve.model";
let choice = null;

/** Return the chosen model: `name`, and `version` (null lets the server choose); null without a choice. */
export const chosenModel = () => choice;

/** Return what a file that is dropped now is read as: before the catalog is loaded, the remembered choice; null without one. */
export function expectedModel() {
  if (choice !== null || allModels().length > 0) return choice;
  const { name, version = null } = stored();
  return typeof name === "string" ? { name, version } : null;
}

/** Return the catalog entry that describes the choice; null without one. */
export const chosenVersion = () => (choice === null ? null : versionOf(choice));

/** Return the display name of a choice, or its identifier as long as the catalog does not describe it. */
export const titleOf = (model) => displayName(versionOf(model), model.name);

/** Whether the server offers a choice. */
export const isServed = ({ name, version }) => (version === null ? knownModel(name) !== null : knownVersion(name, version) !== null);

const versionOf = ({ name, version }) => knownVersion(name, version ?? knownModel(name)?.versions[0].version);

/** Choose a model, and remember it. */
export function choose(name, version = null) {
  choice = { name, version };
  try {
    localStorage.setItem(KEY, JSON.stringify(choice));
  } catch {
    // Storage may be forbidden; the choice lasts as long as the page.
  }
}

/** Apply the remembered choice if it is still served; a current one that is not served any more is dropped. */
export function recallChoice() {
  const { name, version = null } = choice ?? stored();
  choice = isServed({ name, version }) ? { name, version } : null;
}

function stored() {
  try {
    const value = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return value !== null && typeof value === "object" ? value : {};
  } catch {
    return {}; // storage is forbidden, or holds something else
  }
}
