// Chooser: cards for the kinds of images, grouped by body part.

import { allModels } from "./catalog.js";
import { chosenModel, chosenVersion } from "./choice.js";
import { displayName, grouped } from "./display.js";
import { byId, make } from "./dom.js";
import { fillThumbnail } from "./samples.js";

/** Show the cards of all models; `onChoose(name)` receives the choice. */
export function showChooser(onChoose) {
  byId("chooser-groups").replaceChildren(...grouped(allModels()).map(([heading, models], index) => {
    const id = `group-${index}`;
    return make("section", { "aria-labelledby": id }, make("h3", { id }, heading),
      make("ul", { class: "kinds" }, models.map((model) => make("li", {}, card(model, onChoose)))));
  }));
  const current = chosenModel();
  byId("keep-choice").hidden = current === null;
  if (current) byId("keep-choice").textContent = `Keep ${displayName(chosenVersion(), current.name)}`;
  setChoosing(true);
}

/** Hide the cards. */
export const hideChooser = () => setChoosing(false);

/** Whether the cards are shown. */
export const isChoosing = () => !byId("chooser").hidden;

function setChoosing(on) {
  byId("chooser").hidden = !on;
  byId("side").hidden = on;
  byId("view-analyse").classList.toggle("choosing", on);
}

/** Whether a server compares the images of a model with the training images. */
const hasCheck = ({ domain }) => (domain ?? "off") !== "off";

function card({ name, versions: [entry] }, onChoose) {
  const { display, title, warning } = entry;
  const frame = make("span", { class: "thumb" });
  fillThumbnail(frame, name, entry.version);
  const id = `kind-${name}`;
  return make("button", {
    type: "button", class: "kind", "aria-labelledby": id, "aria-describedby": `${id}-about`, "data-name": name,
    "aria-pressed": String(chosenModel()?.name === name), on: { click: () => onChoose(name) },
  }, frame, make("span", { class: "kind-text" },
    make("span", { class: "kind-name", id }, displayName(entry, name)),
    make("span", { class: "kind-about", id: `${id}-about` },
      make("span", {}, display?.purpose ?? (displayName(entry, name) === title ? "" : title)),
      display ? make("span", { class: "small" }, display.scope) : null,
      hasCheck(entry) ? null : make("span", { class: "small" }, "No image check: other images get a result, too"),
      warning ? make("span", { class: "flag" }, `Warning: ${warning}`) : null,
      make("span", { class: "identifier" }, name))));
}
