// Models: shows the catalog, and what the images are read as.

import { analyseSample, decideWaiting, resume } from "./analyse.js";
import { allModels } from "./catalog.js";
import { choose, chosenModel, chosenVersion, recallChoice } from "./choice.js";
import { hideChooser, isChoosing, showChooser } from "./chooser.js";
import { displayName } from "./display.js";
import { announce, byId } from "./dom.js";
import { showModel } from "./model_panel.js";
import { rememberedPrevalence } from "./prevalence.js";
import { sampleFile } from "./samples.js";

let described = ""; // the catalog and the choice that the page shows

/** Show the catalog and the choice, if they have changed, and analyse what waited for them. */
export function update() {
  draw();
  resume();
}

function draw() {
  recallChoice();
  const current = JSON.stringify([allModels(), chosenModel()]);
  if (current !== described) {
    described = current;
    const isChosen = chosenModel() !== null;
    for (const id of ["choice", "about", "sample"]) byId(id).hidden = !isChosen;
    if (isChosen) showModel();
    if (allModels().length > 0 && (!isChosen || isChoosing())) showChooser(pick);
  }
}

/** Let the user choose another kind of image. */
export function changeChoice() {
  showChooser(pick);
  byId("chooser-heading").focus();
}

function pick(name) {
  choose(name);
  hideChooser();
  byId("images-heading").focus(); // before waiting files are analysed, which scrolls to their results
  announce(`Images are read as ${displayName(chosenVersion(), name)}.`);
  draw(); // shows the fields of the model, from which waiting files take what is stated about them
  decideWaiting();
}

async function trySample() {
  const model = chosenModel(); // another may be chosen while the sample is loaded
  const entry = chosenVersion();
  const file = entry ? await sampleFile(model.name, entry.version).catch(() => null) : null;
  if (file === null) announce("This model has no sample image.");
  else analyseSample(file, model, (entry.prevalence ?? null) === null ? "" : rememberedPrevalence(model.name));
}

/** Install the listeners. */
export function install() {
  byId("change").addEventListener("click", changeChoice);
  byId("keep-choice").addEventListener("click", () => {
    hideChooser();
    byId("change").focus();
    decideWaiting();
  });
  byId("sample").addEventListener("click", trySample);
}
