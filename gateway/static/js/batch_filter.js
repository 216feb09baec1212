// Filter of the table of many files: a button for each kind of row with its number, and a text.

import { KINDS, countKinds, filterRows } from "./batch_rows.js";
import { button, make } from "./dom.js";

/** A filter; `onChange()` is called when the user changes it. */
export class BatchFilter {
  constructor(onChange) {
    this.onChange = onChange;
    this.kind = null;
    this.chips = make("div", { class: "batch-chips", role: "group", "aria-label": "Show" });
    this.search = make("input", { type: "search", id: "batch-text", maxlength: 128, placeholder: "File or result", on: { input: onChange } });
    this.element = make("div", { class: "batch-filter" }, this.chips,
      make("div", { class: "batch-search" }, make("label", { for: "batch-text", class: "visually-hidden" }, "Filter by file or result"), this.search));
  }

  /** Whether it hides rows. */
  get isActive() {
    return this.kind !== null || this.search.value.trim() !== "";
  }

  /** Show all rows. */
  reset() {
    this.kind = null;
    this.search.value = "";
  }

  /** Return the rows that pass. */
  apply(rows) {
    return filterRows(rows, this.kind, this.search.value);
  }

  /** Draw the number of rows of each kind. */
  draw(rows) {
    const counts = countKinds(rows);
    const shown = [[null, "All", rows.length], ...[...KINDS].map(([kind, name]) => [kind, name, counts.get(kind)])]
      .filter(([kind, , count]) => kind === null || count > 0 || kind === this.kind);
    this.replace(shown.map(([kind]) => kind));
    shown.forEach(([kind, name, count], index) => {
      const chip = this.chips.children[index];
      const text = `${name} ${count}`;
      if (chip.textContent !== text) chip.textContent = text;
      chip.setAttribute("aria-pressed", String(kind === this.kind));
    });
  }

  /** Replace the buttons, if there are others than before; the focus stays on its kind. */
  replace(kinds) {
    const known = kinds.join();
    if (this.chips.dataset.kinds === known) return;
    const focused = [...this.chips.children].find((chip) => chip === document.activeElement)?.dataset.kind;
    this.chips.dataset.kinds = known;
    this.chips.replaceChildren(...kinds.map((kind) => button("", () => this.choose(kind), { class: "batch-chip", "data-kind": kind ?? "all" })));
    if (focused) (this.chips.querySelector(`[data-kind=${focused}]`) ?? this.chips.firstChild).focus();
  }

  choose(kind) {
    this.kind = kind;
    this.onChange();
  }
}
