// Queue of files: a few run at the same time, each with its own progress.

import { button, byId, make } from "./dom.js";
import { fileSize } from "./format.js";


/** Number of files that are analysed at the same time. */
export const PARALLEL = 3;
const waiting = [];
const background = [];
let running = 0;

/** Add a file; `work(job)` runs when a slot is free. A job has a `signal` and a method `progress(fraction)`. */
export function enqueue(file, work) {
  const job = new Job(file, work);
  waiting.push(job);
  byId("progress-list").append(job.element);
  byId("progress").hidden = false;
  next();
}

/** Call `work()` when a slot is free and no file waits for it; it does not show in the list. */
export function enqueueBackground(work) {
  background.push({ run: work });
  next();
}

function next() {
  while (running < PARALLEL && waiting.length + background.length > 0) {
    running += 1;
    (waiting.shift() ?? background.shift()).run().finally(() => {
      running -= 1;
      next();
    });
  }
}

class Job {
  constructor(file, work) {
    this.work = work;
    this.controller = new AbortController();
    this.signal = this.controller.signal;
    this.state = make("span", { class: "small" }, "Waiting");
    this.bar = make("progress", { max: 1, value: 0, "aria-label": `Progress of ${file.name}` });
    this.element = make("li", {},
      make("div", { class: "job-head" }, make("span", { class: "job-name" }, file.name), make("span", { class: "small" }, fileSize(file.size)), this.state,
        button("Cancel", () => this.cancel(), { class: "quiet", "aria-label": `Cancel ${file.name}` })),
      this.bar);
  }

  async run() {
    try {
      if (!this.signal.aborted) await this.work(this);
    } finally {
      this.remove();
    }
  }

  progress(fraction) {
    this.state.textContent = fraction < 1 ? `Uploading ${Math.round(100 * fraction)}%` : "Analysing";
    if (fraction < 1) this.bar.value = fraction;
    else this.bar.removeAttribute("value");
  }

  cancel() {
    this.controller.abort();
    this.remove();
    byId("results-heading").focus();
  }

  remove() {
    this.element.remove();
    byId("progress").hidden = byId("progress-list").children.length === 0;
  }
}
