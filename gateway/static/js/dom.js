// Making and finding elements. Text always becomes a text node: nothing that is shown is ever parsed as HTML.

/** Return the element with an id. */
export const byId = (id) => document.getElementById(id);

/** Make an element; `on` holds listeners, null attributes are left out. */
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

/** Make a button. */
export function button(text, onClick, attributes = {}) {
  return make("button", { type: "button", class: "button", ...attributes, on: { click: onClick } }, text);
}

/** Make a list of terms and what they mean, of those that mean something. */
export function terms(pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return make("dl", { class: "terms" }, known.map(([name, value]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

/** Tell people who do not see the page. */
export function say(text) {
  byId("said").textContent = text;
}

/** The same, at once: something went wrong. */
export function warn(text) {
  byId("warned").textContent = text;
}

/** Let somebody keep a file. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = make("a", { href: url, download: name });
  link.click();
  // The browser reads it after the click.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
