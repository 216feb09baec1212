// Copies HTML of the server (model cards) element by element: only text elements, without attributes.

const ALLOWED = new Set(["P", "UL", "OL", "LI", "TABLE", "THEAD", "TBODY", "TR", "TH", "TD", "CODE", "PRE", "STRONG", "EM", "BLOCKQUOTE", "BR", "HR", "A"]);
const HEADING = /^H([1-6])$/;

function copy(node) {
  if (node.nodeType === Node.TEXT_NODE) return document.createTextNode(node.data);
  if (node.nodeType !== Node.ELEMENT_NODE) return null;
  const children = Array.from(node.childNodes, copy).filter(Boolean);
  const heading = HEADING.exec(node.tagName);
  if (heading) {
    const element = document.createElement(`h${Math.min(6, Number(heading[1]) + 2)}`); // below the dialog's h2
    element.append(...children);
    return element;
  }
  if (!ALLOWED.has(node.tagName)) {
    const fragment = document.createDocumentFragment();
    fragment.append(...children.filter(() => !["SCRIPT", "STYLE"].includes(node.tagName)));
    return fragment;
  }
  const element = document.createElement(node.tagName);
  element.append(...children);
  if (element.tagName === "A") setLink(element, node.getAttribute("href") ?? "");
  if (element.tagName === "TH") element.scope = "col";
  return element;
}

function setLink(element, target) {
  if (!target.startsWith("https://")) return;
  element.href = target;
  element.rel = "noopener noreferrer";
  element.target = "_blank";
}

/** Return a safe copy of HTML. */
export function safeHtml(html) {
  const fragment = document.createDocumentFragment();
  const body = new DOMParser().parseFromString(html, "text/html").body;
  fragment.append(...Array.from(body.childNodes, copy).filter(Boolean));
  return fragment;
}
