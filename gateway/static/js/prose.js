// HTML of the server (a model card), taken over element by element: only what text needs, without any attribute.

const KEPT = new Set(["P", "UL", "OL", "LI", "TABLE", "THEAD", "TBODY", "TR", "TH", "TD", "CODE", "PRE", "STRONG", "EM", "BLOCKQUOTE", "BR", "HR", "A"]);
const HEADING = /^H([1-6])$/;

function taken(node) {
  if (node.nodeType === Node.TEXT_NODE) return document.createTextNode(node.data);
  if (node.nodeType !== Node.ELEMENT_NODE) return null;
  const children = Array.from(node.childNodes, taken).filter(Boolean);
  const heading = HEADING.exec(node.tagName);
  if (heading) {
    // The dialog's own heading is the second.
    const element = document.createElement(`h${Math.min(6, Number(heading[1]) + 2)}`);
    element.append(...children);
    return element;
  }
  if (!KEPT.has(node.tagName)) {
    const fragment = document.createDocumentFragment();
    fragment.append(...children.filter(() => !["SCRIPT", "STYLE"].includes(node.tagName)));
    return fragment;
  }
  const element = document.createElement(node.tagName);
  element.append(...children);
  if (element.tagName === "A") link(element, node.getAttribute("href") ?? "");
  if (element.tagName === "TH") element.scope = "col";
  return element;
}

function link(element, target) {
  if (!target.startsWith("https://")) return;
  element.href = target;
  element.rel = "noopener noreferrer";
  element.target = "_blank";
}

/** Return what of some HTML may be shown. */
export function prose(html) {
  const fragment = document.createDocumentFragment();
  const body = new DOMParser().parseFromString(html, "text/html").body;
  fragment.append(...Array.from(body.childNodes, taken).filter(Boolean));
  return fragment;
}
