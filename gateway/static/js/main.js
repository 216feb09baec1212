// The page: its two views, its colours, its dialogs, and the parts that fill it.

import { analyse, install as installAnalyse } from "./analyse.js";
import { forgetKey, hasKey } from "./api.js";
import { byId, say } from "./dom.js";
import * as history from "./history.js";
import { load } from "./models.js";
import { install as installRefusals } from "./refusals.js";

const VIEWS = ["analyse", "history"];
const dark = matchMedia("(prefers-color-scheme: dark)");

function view() {
  const wanted = VIEWS.find((name) => location.hash === `#${name}`) ?? "analyse";
  for (const name of VIEWS) byId(`view-${name}`).hidden = name !== wanted;
  for (const link of document.querySelectorAll("nav a[href^='#']")) {
    if (link.hash === `#${wanted}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (wanted === "history") history.open();
  return wanted;
}

function colours() {
  const { theme } = document.documentElement.dataset;
  byId("theme").setAttribute("aria-pressed", String(theme ? theme === "dark" : dark.matches));
}

function toggleColours() {
  const root = document.documentElement;
  root.dataset.theme = byId("theme").getAttribute("aria-pressed") === "true" ? "light" : "dark";
  try {
    localStorage.setItem("radserve.theme", root.dataset.theme);
  } catch {
    // Storage may be forbidden; then it lasts as long as the page.
  }
  colours();
}

function installKey() {
  const forget = byId("forget");
  const shown = () => { forget.hidden = !hasKey(); };
  forget.addEventListener("click", () => {
    forgetKey();
    shown();
    say("The key is forgotten.");
    byId("main").focus();
  });
  byId("key").addEventListener("close", () => setTimeout(shown));
  shown();
}

function installApp() {
  // Only over https or on this machine; without it the page is the same but for being installable.
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
byId("theme").addEventListener("click", toggleColours);
dark.addEventListener("change", colours);
window.addEventListener("hashchange", () => byId(`${view()}-heading`).focus());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the view
  byId("main").focus();
});

colours();
installRefusals();
installAnalyse();
history.install();
installKey();
installApp();
load((file) => analyse([file])).then(() => {
  document.documentElement.dataset.ready = "";
  view();
});
