// Helpers for DOM elements. Text always becomes a text node, never HTML.

/** Return the element with an id. */
export const byId = (id) => document.getElementById(id);

/** Create an element; `on` holds listeners, attributes that are null, undefined or false are omitted. */
export function make(tag, { on = {}, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Create an element of a drawing (SVG). */
export function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Create a button. */
export function button(text, onClick, attributes = {}) {
  return make("button", { type: "button", class: "button", ...attributes, on: { click: onClick } }, text);
}

/** Create a description list; pairs without a value are omitted. */
export function terms(pairs) {
  const entries = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return make("dl", { class: "terms" }, entries.map(([name, value]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

/** Announce a message to screen readers when they are idle. */
export function announce(text) {
  byId("announcement").textContent = text;
}

/** Announce a failure to screen readers immediately. */
export function alertReader(text) {
  byId("alert").textContent = text;
}

/** Download a file. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // the browser reads it after the click
}
