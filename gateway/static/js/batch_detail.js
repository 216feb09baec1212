// Details of a row of the table of many files: its result card, or why it has none. Built when it is opened.

import { statusOf } from "./batch_rows.js";
import { titleOf } from "./choice.js";
import { suggestedRepair } from "./domain.js";
import { button, make } from "./dom.js";
import { describe, isUnfit } from "./rejections.js";
import { Result } from "./result.js";
import { thumbnailOf } from "./thumbnails.js";

/** Details; `actions` has `close`, `step(by)`, `repeat(row)`, `repair(row, repair)` and `reconsider(row)`. */
export class BatchDetail {
  constructor(actions) {
    this.actions = actions;
    this.row = null;
    this.result = null;
    this.previous = button("Previous", () => actions.step(-1));
    this.next = button("Next", () => actions.step(1));
    this.place = make("span", { class: "small" });
    this.content = make("ol", { class: "results" });
    this.element = make("div", { class: "batch-detail", hidden: true, on: { keydown: (event) => this.press(event) } },
      make("div", { class: "row batch-steps" }, button("Back to the table", actions.close), this.previous, this.next, this.place), this.content);
  }

  press(event) {
    if (event.key === "Escape" && !event.defaultPrevented) this.actions.close();
  }

  /** Show a row; `order` has the rows of the table. */
  open(row, order) {
    this.close();
    this.row = row;
    this.locate(order);
    this.element.hidden = false;
    this.fill();
    this.content.querySelector("h3").focus({ preventScroll: true });
  }

  /** Show which place the row has in the table. */
  locate(order) {
    const index = order.indexOf(this.row);
    this.previous.disabled = index <= 0;
    this.next.disabled = index < 0 || index >= order.length - 1;
    this.place.textContent = index < 0 ? "" : `${index + 1} of ${order.length}`;
  }

  /** Show a row again, if it is the one that is shown. */
  update(row) {
    if (row !== this.row) return;
    const hadFocus = this.content.contains(document.activeElement);
    this.fill();
    if (hadFocus) this.content.querySelector("h3").focus({ preventScroll: true });
  }

  fill() {
    const { row, actions } = this;
    this.result?.release();
    this.result = row.state === "done" ? new Result(row.file, row.prediction, row.version, row.sent, (repair) => actions.repair(row, repair)) : null;
    this.content.replaceChildren(this.result?.element ?? (row.problem ? this.problem() : pending(row)));
  }

  problem() {
    const { row, actions } = this;
    const { problem } = row;
    const repair = row.model.repair ? null : suggestedRepair(problem.domain);
    return make("li", { class: "rejections" },
      make("h3", { tabindex: "-1" }, row.name), thumbnailOf(row.file), describe(problem, titleOf(row.model)),
      make("div", { class: "row" },
        isUnfit(problem) ? button("Choose another kind of image", () => actions.reconsider(row)) : null,
        repair ? button(repair.text, () => actions.repair(row, repair.name)) : null,
        problem.canRetry ? button("Try again", () => actions.repeat(row)) : null));
  }

  /** Release the picture. */
  close() {
    this.result?.release();
    this.result = null;
    this.row = null;
    this.element.hidden = true;
    this.content.replaceChildren();
  }
}

const pending = (row) => make("li", { class: "panel" }, make("h3", { tabindex: "-1" }, row.name), make("p", {}, statusOf(row)));
