// Head of the table of many files: progress, what can be done with all of them, and the model's warnings.

import { canRepeat, isSettled } from "./batch_rows.js";
import { titleOf } from "./choice.js";
import { button, make } from "./dom.js";
import { counted } from "./format.js";

const MIN_ESTIMATE = 5; // files after which the page says how long the rest takes

/** A head; `actions` has `clear`, `cancel`, `repeat`, `saveCsv` and `saveZip`. */
export class BatchHead {
  constructor(actions) {
    const withFocus = (action) => () => { // the button disappears
      action();
      this.heading.focus();
    };
    this.heading = make("h2", { id: "batch-heading", tabindex: "-1" });
    this.subject = make("span", { class: "small" });
    this.text = make("p", { class: "batch-state" });
    this.bar = make("progress", { "aria-label": "Analysed files" });
    this.clear = button("Clear table", actions.clear, { class: "quiet" });
    this.cancel = button("Cancel", withFocus(actions.cancel));
    this.repeat = button("", withFocus(actions.repeat), { class: "button primary" });
    this.element = make("div", { class: "section-head" }, this.heading, this.subject, this.clear);
    this.progress = make("div", { class: "batch-progress" }, make("div", {}, this.text, this.bar),
      make("div", { class: "row" }, this.repeat, this.cancel, button("Results (CSV)", actions.saveCsv), button("Results (ZIP)", actions.saveZip)));
    this.warnings = make("div", { class: "batch-warnings" });
  }

  /** Draw the state of rows; `began` has the `time` and the number of `settled` rows when the run began. */
  draw(rows, { isReady, isPaused, began }) {
    const settled = rows.filter(isSettled).length;
    const isBusy = settled < rows.length;
    const repeatable = rows.filter(canRepeat);
    const models = new Set(rows.map(({ model }) => titleOf(model)));
    setText(this.heading, counted(rows.length, "file"));
    setText(this.subject, `Read as ${[...models].join(", ")}`);
    const reason = !isReady ? "The others are analysed when the service is ready."
      : isPaused ? "The server limits requests; continuing shortly." : remaining(rows.length - settled, settled, began);
    setText(this.text, `${settled} of ${rows.length} done. ${isBusy ? reason : ""}`.trim());
    this.bar.max = Math.max(1, rows.length);
    this.bar.value = settled;
    this.bar.hidden = this.cancel.hidden = !isBusy;
    this.clear.hidden = isBusy;
    this.repeat.hidden = isBusy || repeatable.length === 0;
    setText(this.repeat, repeatText(repeatable));
    this.drawWarnings(rows);
  }

  /** Draw what the model warns of. For images unlike the training images, the API appends another warning, for programmers. */
  drawWarnings(rows) {
    const texts = new Set(rows.flatMap(({ kind, prediction, version }) => (kind === "doubtful" ? version?.warning : prediction?.warning) ?? []));
    const known = [...texts].join("\n");
    if (this.warnings.dataset.texts === known) return;
    this.warnings.dataset.texts = known;
    this.warnings.replaceChildren(...[...texts].map((text) => make("p", { class: "warning" }, make("strong", {}, "Warning: "), text)));
  }
}

/** Say how long the rest takes. */
function remaining(count, settled, began) {
  const done = settled - began.settled;
  if (done < MIN_ESTIMATE) return "";
  const seconds = (count * (performance.now() - began.time)) / done / 1000;
  if (seconds < 60) return `${seconds < 20 ? "A few seconds" : "About a minute"} left.`;
  return `About ${counted(Math.ceil(seconds / 60), "minute")} left.`;
}

function repeatText(rows) {
  const { length } = rows;
  if (rows.some(({ state }) => state === "cancelled")) return length === 1 ? "Analyse the other file" : `Analyse the other ${length} files`;
  return length === 1 ? "Try the failed file again" : `Try the ${length} failed files again`;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
