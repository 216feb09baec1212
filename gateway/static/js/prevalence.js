// Share of positive images that the user states for a model; this browser remembers it.

import { Problem } from "./api.js";
import { byId } from "./dom.js";
import { share } from "./format.js";

const memory = new Map();
const key = (name) => `radserve.prevalence.${name}`;

/** Return the stored value. Memory comes first: it is newer than a full storage. */
function recall(name) {
  try {
    return memory.get(name) ?? localStorage.getItem(key(name)) ?? "";
  } catch {
    return "";
  }
}

function remember(name, value) {
  memory.set(name, value);
  try {
    if (value === "") localStorage.removeItem(key(name));
    else localStorage.setItem(key(name), value);
  } catch {
    // Storage may be forbidden; the value lasts as long as the page.
  }
}

/** Show the field for a model whose calibration assumes the share `assumed`; hide it for others. */
export function showPrevalence(name, assumed) {
  const field = byId("prevalence");
  byId("prevalence-field").hidden = assumed === null;
  byId("prevalence-help").textContent = assumed === null ? "" : `For the next files: among the patients whose images you send. Without it, probabilities assume ${share(assumed)} of images to be positive. It changes the probability, not the reported label.`;
  field.value = recall(name);
  field.oninput = () => { if (field.validity.valid) remember(name, field.value); };
}

/** Return the share that the user stated earlier for a model, as text for the API; empty without one. */
export const rememberedPrevalence = (name) => asFraction(recall(name));

/** Return the share that the user states, as text for the API; empty without one. Throws a Problem if it is invalid. */
export function statedPrevalence() {
  const field = byId("prevalence");
  if (byId("prevalence-field").hidden) return "";
  if (!field.validity.valid) throw new Problem("The share of positive images must be a number from 0.0001 to 99.9999 percent. Correct or clear it, then try again.");
  return asFraction(field.value);
}

const asFraction = (text) => (text === "" ? "" : String(Number((Number(text) / 100).toFixed(6))));
