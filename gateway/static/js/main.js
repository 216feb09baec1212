// Starts the page: views, colour theme, dialogs, and the modules that fill them.

import { install as installAnalyse } from "./analyse.js";
import { forgetKey, hasKey } from "./api.js";
import * as cases from "./cases.js";
import { announce, byId } from "./dom.js";
import * as history from "./history.js";
import * as models from "./models.js";
import { install as installRejections } from "./rejections.js";
import * as service from "./service.js";

const VIEWS = ["analyse", "history", "cases"];
const systemDark = matchMedia("(prefers-color-scheme: dark)");

function showView({ isNew = false } = {}) {
  const view = VIEWS.find((name) => location.hash.split(/[/?]/)[0] === `#${name}`) ?? "analyse";
  for (const name of VIEWS) byId(`view-${name}`).hidden = name !== view;
  for (const link of document.querySelectorAll("nav a[href^='#']")) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  byId(view === "history" ? "view-history" : "work").prepend(byId("rejections"));
  byId("rejections-heading").textContent = view === "history" ? "Problems" : "Could not be analysed";
  if (view !== "history") history.leave();
  if (view !== "cases") cases.leave();
  if (view !== "analyse") {
    ({ history, cases })[view].open({ isNew });
    return;
  }
  if (isNew) byId("analyse-heading").focus();
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
window.addEventListener("hashchange", () => showView({ isNew: true }));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the hash names the view
  byId("main").focus();
});

updateThemeButton();
installRejections();
installAnalyse(models.changeChoice);
models.install();
history.install();
installKey();
installApp();
service.install(() => {
  models.update();
  history.update();
});
service.connect().then(() => {
  document.documentElement.dataset.ready = "";
  showView();
});
