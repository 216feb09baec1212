// Table of many files: sorted, filtered, and drawn only where it is in view.

import { BatchFilter } from "./batch_filter.js";
import { folderOf, isMixed, measureText, readerOf, sortRows, statusOf } from "./batch_rows.js";
import { titleOf } from "./choice.js";
import { button, make } from "./dom.js";
import { compared, cutoff } from "./format.js";
import { symbol } from "./verdict.js";

const COLUMNS = [
  { name: "Picture" }, { name: "File", key: "file" }, { name: "Result", key: "result" }, { name: "Probability", key: "probability" },
  { name: "Cut-off", key: "threshold" }, { name: "Status", key: "status" },
];
const MARGIN = 6; // rows drawn above and below the view
const END = 12; // last characters of a name, which are never cut: they often tell files apart
const PERIOD = 1_000; // milliseconds between two orders while results arrive
const FIRST = { probability: true }; // columns of which the highest value comes first

/** Say which model and version read a row. */
function readerText(row) {
  const { name, version } = readerOf(row);
  return `${titleOf({ name, version })}${version ? `, version ${version}` : ""}`;
}

const ruler = make("canvas").getContext("2d");

/** Return a name without as much of its middle as does not fit into a width in pixels. */
function fitted(name, width) {
  const characters = Array.from(name); // no pair of UTF-16 units is cut
  let text = name;
  for (let count = characters.length - END - 1; count > 0 && ruler.measureText(text).width > width; count -= 1) {
    text = [...characters.slice(0, count), "…", ...characters.slice(-END)].join("");
  }
  return text;
}

/** A table; `onOpen(row)` opens a row, `thumbnails` has its pictures. */
export class BatchTable {
  constructor({ onOpen, thumbnails }) {
    this.onOpen = onOpen;
    this.thumbnails = thumbnails;
    this.rows = [];
    this.order = []; // the rows that the filter shows, sorted
    this.drawn = new Map();
    this.changed = new Set();
    this.active = null; // the row that Tab reaches
    this.sort = { column: null, isDescending: false };
    this.rowHeight = 44;
    this.nameWidth = Infinity; // pixels
    this.ordered = 0;
    this.frame = 0;
    this.element = this.make();
    new ResizeObserver(() => this.measure()).observe(this.scroller);
  }

  make() {
    this.filter = new BatchFilter(() => this.restart());
    this.headers = COLUMNS.map(({ name, key }) => make("th", { role: "columnheader", scope: "col", class: `batch-${key ?? "picture"}` },
      key ? button(name, () => this.sortBy(key), { class: "batch-sort" }) : make("span", { class: "visually-hidden" }, name)));
    this.body = make("tbody", { role: "rowgroup", on: { click: (event) => this.click(event), keydown: (event) => this.press(event), focusin: (event) => this.reach(event) } });
    this.table = make("table", { role: "table", "aria-labelledby": "batch-heading" },
      make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, this.headers)), this.body);
    this.scroller = make("div", { class: "batch-scroll", on: { scroll: () => this.schedule() } }, this.table);
    this.nothing = make("p", { class: "batch-nothing small", hidden: true }, "No files match.");
    return make("div", {}, this.filter.element, this.scroller, this.nothing);
  }

  /** Show other rows. */
  show(rows) {
    this.rows = rows;
    this.reorder();
  }

  /** Draw a row that has changed. */
  update(row) {
    this.changed.add(row);
    this.schedule();
  }

  /** Sort, filter and draw all rows again. */
  redraw() {
    for (const row of this.drawn.keys()) this.changed.add(row);
    this.reorder();
  }

  /** Sort and filter again. */
  reorder() {
    this.ordered = performance.now();
    this.order = sortRows(this.filter.apply(this.rows), this.sort.column, this.sort.isDescending);
    this.indices = new Map(this.order.map((row, index) => [row, index]));
    if (!this.indices.has(this.active)) this.active = this.order[0] ?? null;
    this.schedule();
  }

  schedule() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  sortBy(column) {
    const { sort } = this;
    const first = FIRST[column] ?? false;
    if (sort.column !== column) this.sort = { column, isDescending: first };
    else if (sort.isDescending === first) this.sort = { column, isDescending: !first };
    else this.sort = { column: null, isDescending: false }; // as dropped
    this.restart();
  }

  /** Sort and filter again, and show the first row. */
  restart() {
    this.scroller.scrollTop = 0;
    this.active = null;
    this.reorder();
  }

  measure() {
    const [element] = this.drawn.values();
    if (element?.offsetHeight) {
      this.rowHeight = element.offsetHeight;
      this.measureNames(element.querySelector(".batch-open"));
    }
    this.height = this.scroller.clientHeight;
    this.schedule();
  }

  measureNames(name) {
    const { clientWidth } = name.parentElement;
    if (clientWidth === this.nameWidth) return;
    this.nameWidth = clientWidth;
    ruler.font = getComputedStyle(name).font;
    for (const row of this.drawn.keys()) this.changed.add(row);
  }

  draw() {
    // Rows that move while someone points at one would open another.
    const isStill = !this.body.matches(":hover") && !this.body.contains(document.activeElement);
    if (this.changed.size && isStill && (this.filter.isActive || this.sort.column !== null) && performance.now() - this.ordered > PERIOD) this.reorder();
    const wasMixed = this.isMixed;
    this.isMixed = isMixed(this.rows);
    if (this.isMixed !== wasMixed) for (const row of this.drawn.keys()) this.changed.add(row);
    this.drawHead();
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / this.rowHeight) - MARGIN);
    const wanted = this.order.slice(first, first + Math.ceil((this.height || 600) / this.rowHeight) + 2 * MARGIN);
    if (this.active && this.body.contains(document.activeElement) && !wanted.includes(this.active)) wanted.push(this.active);
    for (const [row, element] of this.drawn) {
      if (wanted.includes(row)) continue;
      element.remove();
      this.drawn.delete(row);
    }
    const reachable = wanted.includes(this.active) ? this.active : this.order[first + MARGIN] ?? wanted[0];
    wanted.forEach((row, place) => this.drawRow(row, place, row === reachable));
    this.changed.clear();
    if (this.drawn.size && !this.isMeasured) {
      this.isMeasured = true;
      this.measure();
    }
  }

  drawRow(row, place, isReachable) {
    let element = this.drawn.get(row);
    if (!element) {
      element = make("tr", { role: "row", "data-id": row.id });
      this.drawn.set(row, element);
      this.changed.add(row);
    }
    if (this.changed.has(row)) this.fill(element, row);
    const index = this.indices.get(row);
    element.style.transform = `translateY(${index * this.rowHeight}px)`;
    element.setAttribute("aria-rowindex", index + 2);
    element.querySelector(".batch-open").tabIndex = isReachable ? 0 : -1;
    if (this.body.children[place] !== element) this.body.insertBefore(element, this.body.children[place] ?? null);
  }

  fill(element, row) {
    const hadFocus = element.contains(document.activeElement);
    const sign = symbol(row.kind) ? make("span", { class: "batch-sign", "aria-hidden": "true" }, symbol(row.kind)) : null;
    const folder = folderOf(row);
    const td = (name, ...children) => make("td", { role: "cell", class: `batch-${name}` }, ...children);
    const hasBoth = row.threshold !== null && row.probability !== null;
    const [measure, limit] = hasBoth ? compared(row.probability, row.threshold) : [measureText(row), row.threshold === null ? "–" : cutoff(row.threshold)];
    element.className = `batch-row batch-is-${row.kind}`;
    element.replaceChildren(td("picture", this.thumbnails.of(row)),
      td("file", make("button", { type: "button", class: "batch-open", title: row.path, "aria-label": row.name }, make("span", { class: "batch-name" }, fitted(row.name, this.nameWidth))), folder ? make("span", { class: "small" }, folder) : null),
      td("result", sign, make("div", { class: "batch-said" }, make("span", { class: "batch-text", title: row.text }, row.text),
        this.isMixed ? make("span", { class: "small batch-reader", title: readerText(row) }, readerText(row)) : null)),
      td("probability", measure),
      td("threshold", limit),
      td("status", statusOf(row)));
    if (hadFocus) element.querySelector(".batch-open").focus();
  }

  drawHead() {
    this.body.style.height = `${this.order.length * this.rowHeight}px`;
    this.table.setAttribute("aria-rowcount", this.order.length + 1);
    this.nothing.hidden = this.order.length > 0;
    this.scroller.hidden = this.order.length === 0;
    COLUMNS.forEach(({ key }, index) => {
      const isSorted = key !== undefined && this.sort.column === key;
      if (key) this.headers[index].setAttribute("aria-sort", isSorted ? (this.sort.isDescending ? "descending" : "ascending") : "none");
    });
    this.filter.draw(this.rows);
  }

  rowAt(target) {
    const id = Number(target.closest("tr")?.dataset.id);
    return this.order.find((row) => row.id === id) ?? null;
  }

  click(event) {
    const row = this.rowAt(event.target);
    if (row === null) return;
    this.active = row;
    this.onOpen(row);
  }

  reach(event) {
    this.active = this.rowAt(event.target) ?? this.active;
  }

  press(event) {
    const page = Math.max(1, Math.floor(this.height / this.rowHeight) - 2);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (!(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const index = Math.min(this.order.length - 1, Math.max(0, this.indices.get(this.active) + steps[event.key]));
    this.focus(this.order[index]);
  }

  /** Bring a row into view and focus it. */
  focus(row) {
    if (!this.indices.has(row)) return;
    this.active = row;
    const top = this.indices.get(row) * this.rowHeight;
    const { scroller } = this;
    const room = this.height - this.rowHeight - this.table.tHead.offsetHeight;
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    else if (top > scroller.scrollTop + room) scroller.scrollTop = top - room;
    this.draw();
    this.drawn.get(row)?.querySelector(".batch-open").focus({ preventScroll: true });
    scroller.scrollIntoView({ block: "nearest" }); // in the page
  }
}
