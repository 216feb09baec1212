// Files on their way: each by itself, a few at once, with its own progress.

import { button, byId, make } from "./dom.js";
import { size } from "./words.js";

const AT_ONCE = 3;
const waiting = [];
let running = 0;

/**
 * Put a file into the queue.
 *
 * `work(job)` is called when it is its turn; `job` has a `signal` and a method `progress(share)`.
 */
export function add(file, work) {
  const job = new Job(file, work);
  waiting.push(job);
  byId("progress-list").append(job.element);
  byId("progress").hidden = false;
  next();
}

function next() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    waiting.shift().run().finally(() => {
      running -= 1;
      next();
    });
  }
}

class Job {
  constructor(file, work) {
    this.work = work;
    this.control = new AbortController();
    this.signal = this.control.signal;
    this.state = make("span", { class: "small" }, "Waiting");
    this.bar = make("progress", { max: 1, value: 0, "aria-label": `Progress of ${file.name}` });
    this.element = make("li", {},
      make("div", { class: "job-head" }, make("span", { class: "job-name" }, file.name), make("span", { class: "small" }, size(file.size)), this.state,
        button("Cancel", () => this.cancel(), { class: "quiet", "aria-label": `Cancel ${file.name}` })),
      this.bar);
  }

  async run() {
    try {
      if (!this.signal.aborted) await this.work(this);
    } finally {
      this.leave();
    }
  }

  progress(share) {
    this.state.textContent = share < 1 ? `Sending ${Math.round(100 * share)} %` : "Analysing";
    if (share < 1) this.bar.value = share;
    else this.bar.removeAttribute("value");
  }

  cancel() {
    this.control.abort();
    this.leave();
    byId("results-heading").focus();
  }

  leave() {
    this.element.remove();
    byId("progress").hidden = byId("progress-list").children.length === 0;
  }
}
