// Dialog with the card of a model version: intended use, data, accuracy, limits.

import { get } from "./api.js";
import { knownVersion } from "./catalog.js";
import { displayName } from "./display.js";
import { byId, make, terms } from "./dom.js";
import { capitalize } from "./format.js";
import { show } from "./rejections.js";
import { safeHtml } from "./safe_html.js";

/** Show the model card. */
export async function showCard(name, version) {
  const dialog = byId("card");
  const text = byId("card-text");
  const entry = knownVersion(name, version);
  text.replaceChildren(make("p", {}, "Loading …"));
  byId("card-heading").textContent = `${displayName(entry, name)} (${name} ${version})`;
  dialog.showModal();
  try {
    const html = await (await get(`api/models/${name}/${version}/card`, "text/html")).text();
    text.replaceChildren(entry ? facts(entry) : "", safeHtml(html));
    text.scrollTop = 0;
  } catch (error) {
    dialog.close();
    show(`Model card of ${displayName(entry, name)}`, error, { retry: () => showCard(name, version) });
  }
}

function facts({ task, input, sha256 }) {
  return terms([
    ["Task", capitalize(task)],
    ["Model input", `${input.width} × ${input.height} pixels, ${input.color === "rgb" ? "colour" : "grayscale"}`],
    ["Archive SHA-256", make("code", {}, sha256)],
  ]);
}
