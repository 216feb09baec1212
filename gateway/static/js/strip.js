// Strip of one bar for each slice of a stack, above a slider that scrolls through them.

import { button, make, svg } from "./dom.js";
import { stretches } from "./series_rejections.js";

const HEIGHT = 100; // of the strip's coordinates; a slice is 10 wide
const WIDTH = 10;
const GAP = 1.5;
const SMALLEST = 4; // height of a bar that is not 0
let strips = 0;

/**
 * Strip of slices with a `value` from 0 to `top`, or null; `onChange(index)` shows a slice.
 *
 * `states` are of `series_summary.js`, `texts` say the same. `line` is a cut-off, or null; `gaps`
 * are indices after which slices are missing.
 */
export class Strip {
  constructor({ states, texts, top, line, gaps, label }, onChange) {
    this.count = states.length;
    this.texts = texts;
    this.label = label;
    this.onChange = onChange;
    this.cursor = svg("rect", { class: "cursor", y: 0, width: WIDTH, height: HEIGHT });
    const bars = states.flatMap((state, index) => bar(state, index, top));
    const marks = gaps.map((after) => svg("line", { class: "gap", x1: (after + 1) * WIDTH, x2: (after + 1) * WIDTH, y1: 0, y2: HEIGHT }));
    const cut = line === null ? [] : [svg("line", { class: "cut", x1: 0, x2: this.count * WIDTH, y1: HEIGHT * (1 - line / top), y2: HEIGHT * (1 - line / top) })];
    this.chart = svg("svg", { class: "strip", viewBox: `0 0 ${this.count * WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...bars, ...marks, ...cut, this.cursor);
    const id = `slice-${strips += 1}`;
    this.slider = make("input", { type: "range", id, min: 1, max: this.count, step: 1, value: 1 });
    this.state = make("span", { class: "state", "aria-hidden": "true" }); // the slider says it
    this.place = make("output", { class: "place", for: id });
    this.element = make("div", { class: "stack" },
      make("div", { class: "stack-head" }, make("label", { for: id }, label), this.place, this.state),
      make("div", { class: "strip-frame" }, hatches(states), this.chart),
      make("div", { class: "stack-row" },
        button("−", () => this.go(this.index - 1), { class: "button square", "aria-label": `Previous ${label.toLowerCase()}` }),
        this.slider,
        button("+", () => this.go(this.index + 1), { class: "button square", "aria-label": `Next ${label.toLowerCase()}` })));
    this.slider.addEventListener("input", () => this.go(this.slider.valueAsNumber - 1));
    this.chart.addEventListener("pointerdown", (event) => this.onPoint(event));
    this.chart.addEventListener("pointermove", (event) => { if (event.buttons) this.onPoint(event); });
    this.index = -1;
  }

  /** Show a slice, the nearest one if it does not exist. */
  go(index) {
    const next = Math.min(this.count - 1, Math.max(0, index));
    if (next === this.index) return;
    this.index = next;
    this.slider.value = String(next + 1);
    this.slider.setAttribute("aria-valuetext", `${this.label} ${next + 1} of ${this.count}: ${this.texts[next]}`);
    this.cursor.setAttribute("x", String(next * WIDTH));
    this.state.textContent = this.texts[next];
    this.place.textContent = `${next + 1} of ${this.count}`;
    this.onChange(next);
  }

  onPoint(event) {
    const { left, width } = this.chart.getBoundingClientRect();
    this.go(Math.floor((event.clientX - left) / width * this.count));
  }
}

/** Whether the result of a slice must not be relied on. */
export const isUnsure = (kind) => kind === "doubtful" || kind === "uncertain";

/** Return a block for each stretch of slices without a result; a pattern of the chart would be stretched with it. */
const hatches = (states) => stretches(states.flatMap(({ value }, index) => (value === null ? index : []))).map(([first, last]) => {
  const block = make("div", { class: "hatch" });
  Object.assign(block.style, { left: `${100 * first / states.length}%`, width: `${100 * (last + 1 - first) / states.length}%` });
  return block;
});

/** Return the bar of one slice, if it has one. */
function bar({ value, kind, marked }, index, top) {
  const x = index * WIDTH + GAP;
  const width = WIDTH - 2 * GAP;
  if (value === null) return [];
  if (value === 0 && !isUnsure(kind)) return [];
  const height = top > 0 ? Math.max(SMALLEST, HEIGHT * Math.min(1, value / top)) : SMALLEST;
  return [svg("rect", { class: `bar ${marked ? "marked" : ""} ${isUnsure(kind) ? "unsure" : ""}`.trim(), x, y: HEIGHT - height, width, height })];
}
