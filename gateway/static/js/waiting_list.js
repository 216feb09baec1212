// Files that wait until it is known what they show, or until the service is ready. Nothing that is dropped is lost.

import { alertReader, byId } from "./dom.js";

const MAX_NAMES = 5;
const files = [];

/** Keep files until they are released. */
export function keep(added) {
  files.push(...added);
  draw();
  alertReader(`${byId("waiting-text").textContent} ${byId("waiting-reason").textContent}`);
}

/** Say what the files wait for. */
export function explainWaiting(reason) {
  byId("waiting-reason").textContent = reason;
}

/** Return the files that waited, and forget them. */
export function release() {
  const released = files.splice(0);
  draw();
  return released;
}

/** Number of files that wait. */
export const waitingCount = () => files.length;

function draw() {
  const names = files.slice(0, MAX_NAMES).map((file) => file.name).join(", ");
  const rest = files.length > MAX_NAMES ? ` and ${files.length - MAX_NAMES} more` : "";
  byId("waiting").hidden = files.length === 0;
  byId("waiting-text").textContent = files.length === 1 ? `1 file is waiting: ${names}.` : `${files.length} files are waiting: ${names}${rest}.`;
}
