// Panel of the chosen model: what the images are read as, what may be stated about them, and figures.

import { showFields } from "./assurances.js";
import { knownModel } from "./catalog.js";
import { choose, chosenModel, chosenVersion } from "./choice.js";
import { acceptsPhotographs, displayName, intendedUse } from "./display.js";
import { modeText } from "./domain.js";
import { button, byId, make, terms } from "./dom.js";
import { capitalize, cutoff, scores } from "./format.js";
import { showCard } from "./model_card.js";
import { showPrevalence } from "./prevalence.js";
import { fillThumbnail } from "./samples.js";

const narrow = matchMedia("(max-width: 900px)");

/** Describe the chosen model. */
export function showModel() {
  const { name } = chosenModel();
  const entry = chosenVersion();
  byId("choice-name").textContent = displayName(entry, name);
  byId("choice-scope").textContent = entry.display?.scope ?? "";
  byId("choice-id").textContent = `${name} ${entry.version}`;
  byId("choice-thumb").replaceChildren();
  fillThumbnail(byId("choice-thumb"), name, entry.version);
  byId("choice-warning").textContent = entry.warning ?? "";
  byId("choice-warning").hidden = entry.warning === null;
  const photographs = acceptsPhotographs(entry);
  byId("camera-field").hidden = !photographs;
  byId("photograph-note").hidden = photographs;
  showFields(entry.scope ?? []);
  showPrevalence(name, entry.prevalence ?? null);
  byId("options").hidden = byId("assurances").hidden && byId("prevalence-field").hidden;
  showVersions(knownModel(name));
  about(name, entry);
}

function showVersions({ name, versions }) {
  byId("version-field").hidden = versions.length === 1;
  const shares = versions.map(({ version, share }) => `${version} ${Math.round(share)}%`).join(", ");
  const select = byId("version");
  select.replaceChildren(
    make("option", { value: "" }, `Server's choice: ${shares}`),
    ...versions.map(({ version }) => make("option", { value: version }, version)),
  );
  select.value = chosenModel().version ?? "";
  select.onchange = () => {
    choose(name, select.value || null);
    showModel();
  };
}

function about(name, entry) {
  const figures = scores(entry.figures);
  byId("model-about").replaceChildren(
    make("details", { open: !narrow.matches }, make("summary", {}, "At a glance"), terms([
      ...intendedUse(entry),
      ["Results", entry.task === "segmentation" ? "A mask on the image" : entry.labels.map(capitalize).join(", ")],
      ["Cut-off", entry.threshold === null ? null : cutoff(entry.threshold)],
      ["Site profile", entry.profile ? entry.profile.name : null],
      ["Image check", modeText(entry.domain)],
      ...figures,
    ]), figures.length
      ? make("p", { class: "small" }, `Measured ${entry.profile ? "as shipped, without the site profile, " : ""}on held-out images (95% CI). Expect lower accuracy on yours.`) : null),
    button("Model card", () => showCard(name, entry.version)),
    make("p", { class: "small" }, "Intended use and limits; not approved by any regulator."),
  );
}
