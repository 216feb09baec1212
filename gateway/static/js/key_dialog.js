// Dialog that asks for the access key. The key is sent in request headers only.

import { byId } from "./dom.js";

let pending = null;

/** Return the key that the user enters, or an empty string; concurrent requests share one dialog. */
export function requestKey(reason) {
  pending ??= new Promise((resolve) => {
    const dialog = byId("key");
    const input = byId("key-value");
    byId("key-reason").textContent = reason;
    input.value = "";
    let key = "";
    byId("key-form").onsubmit = (event) => {
      event.preventDefault();
      key = input.value.trim();
      dialog.close();
    };
    dialog.onclose = () => {
      input.value = "";
      pending = null;
      resolve(key);
    };
    dialog.showModal();
    input.focus();
  });
  return pending;
}
