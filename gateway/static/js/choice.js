// Choice of what the images show: the model that reads them. This browser remembers it.

import { knownModel, knownVersion } from "./catalog.js";

const KEY = "radserve.model";
let choice = null;

/** Return the chosen model: `name`, and `version` (null lets the server choose); null without a choice. */
export const chosenModel = () => choice;

/** Return the catalog entry that describes the choice; null without one. */
export function chosenVersion() {
  if (choice === null) return null;
  return knownVersion(choice.name, choice.version ?? knownModel(choice.name)?.versions[0].version);
}

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
  const isServed = version === null ? knownModel(name) !== null : knownVersion(name, version) !== null;
  choice = isServed ? { name, version } : null;
}

function stored() {
  try {
    const value = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return value !== null && typeof value === "object" ? value : {};
  } catch {
    return {}; // storage is forbidden, or holds something else
  }
}
