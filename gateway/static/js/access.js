// Asking for an API key. Who answers may see it, so it goes nowhere but into the header of requests.

import { byId } from "./dom.js";

let open = null;

/** Ask for a key; several requests that need one wait for the same. Empty if none is given. */
export function ask(why) {
  open ??= new Promise((resolve) => {
    const dialog = byId("key");
    const form = byId("key-form");
    const value = byId("key-value");
    byId("key-why").textContent = why;
    value.value = "";
    let entered = "";
    form.onsubmit = (event) => {
      event.preventDefault();
      entered = value.value.trim();
      dialog.close();
    };
    dialog.onclose = () => {
      value.value = "";
      open = null;
      resolve(entered);
    };
    dialog.showModal();
    value.focus();
  });
  return open;
}
