// Starts the page: views, colour theme, dialogs, and the modules that fill them.

import { analyse, install as installAnalyse, resume } from "./analyse.js";
import { forgetKey, hasKey } from "./api.js";
import { allModels } from "./catalog.js";
import { choose, chosenModel, chosenVersion, recallChoice } from "./choice.js";
import { hideChooser, isChoosing, showChooser } from "./chooser.js";
import { displayName } from "./display.js";
import { announce, byId } from "./dom.js";
import * as history from "./history.js";
import { showModel } from "./model_panel.js";
import { install as installRejections } from "./rejections.js";
import { sampleFile } from "./samples.js";
import * as service from "./service.js";

const VIEWS = ["analyse", "history"];
const systemDark = matchMedia("(prefers-color-scheme: dark)");

function showView() {
  const view = VIEWS.find((name) => location.hash === `#${name}`) ?? "analyse";
  for (const name of VIEWS) byId(`view-${name}`).hidden = name !== view;
  for (const link of document.querySelectorAll("nav a[href^='#']")) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (view === "history") history.open();
  return view;
}

let described = ""; // the catalog and the choice that the page shows

/** Show the catalog and the choice, if they have changed, and analyse what waited for them. */
function updateModels() {
  recallChoice();
  const current = JSON.stringify([allModels(), chosenModel()]);
  if (current !== described) {
    described = current;
    const isChosen = chosenModel() !== null;
    for (const id of ["choice", "about"]) byId(id).hidden = !isChosen;
    if (isChosen) showModel();
    if (allModels().length > 0 && (!isChosen || isChoosing())) showChooser(pick);
  }
  resume();
}

/** Choose a kind of image, and analyse what waited for it. */
function pick(name) {
  choose(name);
  hideChooser();
  updateModels();
  announce(`Images are read as ${displayName(chosenVersion(), name)}.`);
  byId("images-heading").focus();
}

function changeChoice() {
  showChooser(pick);
  byId("chooser-heading").focus();
}

function installModels() {
  byId("change").addEventListener("click", changeChoice);
  byId("keep-choice").addEventListener("click", () => {
    hideChooser();
    byId("change").focus();
  });
  byId("sample").addEventListener("click", async () => {
    const { name } = chosenModel();
    try {
      analyse([await sampleFile(name, chosenVersion().version)]);
    } catch {
      announce("This model has no sample image.");
    }
  });
}

function updateThemeButton() {
  const { theme } = document.documentElement.dataset;
  byId("theme").setAttribute("aria-pressed", String(theme ? theme === "dark" : systemDark.matches));
}

function toggleTheme() {
  const theme = byId("theme").getAttribute("aria-pressed") === "true" ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("radserve.theme", theme);
  } catch {
    // Storage may be forbidden; the theme lasts as long as the page.
  }
  updateThemeButton();
}

function installKey() {
  const forget = byId("forget");
  const update = () => { forget.hidden = !hasKey(); };
  forget.addEventListener("click", () => {
    forgetKey();
    update();
    announce("Access key deleted.");
    byId("main").focus();
  });
  byId("key").addEventListener("close", () => setTimeout(update));
  update();
}

function installApp() {
  // Requires https or this machine; without it only the installation is missing.
  navigator.serviceWorker?.register("sw.js").catch(() => {});
  window.addEventListener("beforeinstallprompt", (event) => {
    event.preventDefault();
    byId("install").hidden = false;
    byId("install").onclick = () => {
      event.prompt();
      byId("install").hidden = true;
    };
  });
}

for (const close of document.querySelectorAll("[data-close]")) {
  close.addEventListener("click", () => close.closest("dialog").close());
}
byId("theme").addEventListener("click", toggleTheme);
systemDark.addEventListener("change", updateThemeButton);
window.addEventListener("hashchange", () => byId(`${showView()}-heading`).focus());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the hash names the view
  byId("main").focus();
});

updateThemeButton();
installRejections();
installAnalyse(changeChoice);
installModels();
history.install();
installKey();
installApp();
service.install(updateModels);
service.connect().then(() => {
  document.documentElement.dataset.ready = "";
  showView();
});
