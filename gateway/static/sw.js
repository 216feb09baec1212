// Keeps the shell of the page for when there is no connection: never an answer, an image, a card or a key.
// What is kept is used only where the server cannot be reached, so that a new release is seen at once.

const CACHE = "radserve-shell";
const SHELL = [
  "./", "manifest.webmanifest", "icons/icon.svg", "icons/icon-192.png",
  "css/base.css", "css/layout.css", "css/result.css", "css/history.css",
  "js/early.js", "js/main.js", "js/access.js", "js/analyse.js", "js/answer.js", "js/api.js", "js/bars.js",
  "js/dom.js", "js/files.js", "js/history.js", "js/models.js", "js/paint.js", "js/prose.js", "js/refusals.js",
  "js/result.js", "js/viewer.js", "js/words.js",
].map((path) => new URL(path, self.registration.scope).href);

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(SHELL)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  event.waitUntil(self.clients.claim());
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || !SHELL.includes(request.url.split(/[?#]/)[0])) return;
  event.respondWith(fresh(request));
});

async function fresh(request) {
  const cache = await caches.open(CACHE);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(request.url.split(/[?#]/)[0], response.clone());
    return response;
  } catch (error) {
    const kept = await cache.match(request.url.split(/[?#]/)[0]);
    if (kept) return kept;
    throw error;
  }
}
