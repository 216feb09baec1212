// Files that wait until it is known what they show, or until the service is ready. Nothing that is dropped is lost.

import { titleOf } from "./choice.js";
import { alertReader, byId } from "./dom.js";
import { counted, fileNames } from "./format.js";
import { isReady } from "./service.js";

let items = []; // `file` and `model`: what it is sent to, with what was stated about it; null until it is chosen

/** Keep files until they are released; `model` is null if it is not chosen yet. */
export function keep(files, model) {
  items.push(...files.map((file) => ({ file, model })));
  drawWaiting();
  alertReader(`${byId("waiting-text").textContent} ${byId("waiting-reason").textContent}`);
}

/** Whether a file waits for a choice. */
export const hasUndecided = () => items.some(({ model }) => model === null);

/** Forget the choice of files whose model `isServed` does not know. */
export function forgetRetired(isServed) {
  for (const item of items) {
    if (item.model !== null && !isServed(item.model)) item.model = null;
  }
}

/** Return the items whose model is chosen and ready, and forget them. */
export function releaseDecided() {
  const released = items.filter(({ model }) => model !== null && isReady(model));
  items = items.filter((item) => !released.includes(item));
  drawWaiting();
  return released;
}

/** Return the files that wait for a choice, and forget them. */
export function releaseUndecided() {
  const released = items.filter(({ model }) => model === null).map(({ file }) => file);
  items = items.filter(({ model }) => model !== null);
  drawWaiting();
  return released;
}

/** Forget all files. */
export function discard() {
  items = [];
  drawWaiting();
}

/** Show which files wait, and for what. */
export function drawWaiting() {
  byId("waiting").hidden = items.length === 0;
  byId("waiting-text").textContent = `${counted(items.length, "file is", "files are")} waiting: ${namesOf(items)}.`;
  const subject = items.length === 1 ? "It is" : "They are";
  const awaited = isReady() ? "the model" : "the service";
  byId("send-now").disabled = !items.some(({ model }) => model !== null);
  const isWaiting = items.some(({ model }) => !isReady(model));
  byId("waiting-reason").textContent = [...choices(), isWaiting ? `${subject} analysed when ${awaited} is ready.` : ""].filter(Boolean).join(" ");
}

/** Say what the files are read as, by kind: they need not have the same. */
function choices() {
  const groups = Map.groupBy(items, ({ model }) => (model === null ? null : titleOf(model)));
  return [...groups].map(([title, group]) => {
    const isOne = group.length === 1;
    if (groups.size === 1) return title === null ? `Choose what ${isOne ? "it shows" : "they show"}.` : `Read as ${title}.`;
    return title === null ? `Choose what ${namesOf(group)} ${isOne ? "shows" : "show"}.` : `${namesOf(group)} ${isOne ? "is" : "are"} read as ${title}.`;
  });
}

const namesOf = (group) => fileNames(group.map(({ file }) => file));
