// Windows: which values are shown from black to white. Pure functions, without the page.

const SAMPLES = 60_000; // pixels from which the distribution of values is estimated
const TOLERANCE = 2; // gray levels by which equal values may differ in a picture, which is rounded
const CT = [["lung", "Lung", -600, 1500], ["soft", "Soft tissue", 40, 400], ["brain", "Brain", 40, 80], ["bone", "Bone", 400, 1800]];

/** The window that leaves gray levels unchanged. */
export const IDENTITY = Object.freeze({ level: 128, width: 256 });

/** Return the distance of two neighbouring values: 1 as in the standard, less in small units. */
export const grainOf = ({ slope = 1 }) => Math.min(1, Math.abs(slope));

/** Round a number to the digits that matter. */
export const rounded = (value, grain) => Number((Math.round(value / grain) * grain).toPrecision(12));

/** Return the gray level of a value in a window (PS3.3 C.11.2.1.2.1), from 0 to 255. */
export function grayLevel(value, { level, width }, grain = 1) {
  if (width <= grain) return value <= level - grain / 2 ? 0 : 255;
  return Math.min(255, Math.max(0, ((value - (level - grain / 2)) / (width - grain) + 0.5) * 255));
}

/** Return the window from one value (black) to another (white). */
export function windowBetween(low, high, grain = 1) {
  const width = Math.max(2 * grain, high - low + grain);
  return { level: low + width / 2, width };
}

const isPadding = (value, padding) => padding !== null && value >= padding[0] && value <= padding[1];

/** Return values of pixels spread over the picture, ascending, without padding. */
export function distribution({ values, step = 1, padding = null, slope = 1, intercept = 0 }) {
  const stride = Math.max(1, Math.floor(values.length / step / SAMPLES)) * step;
  const picked = [];
  for (let at = 0; at < values.length; at += stride) if (!isPadding(values[at], padding)) picked.push(values[at] * slope + intercept);
  return Float64Array.from(picked).sort();
}

const quantile = (sorted, share) => sorted[Math.round(share * (sorted.length - 1))] ?? 0;

/** Return the range of almost all values, by which a drag across the frame changes a window. */
export function reach(source) {
  const sorted = distribution(source);
  return Math.max(2 * grainOf(source), quantile(sorted, 0.99) - quantile(sorted, 0.01));
}

/** Return the windows to choose from, as `{ id, name, window }`; those in Hounsfield units only for CT. */
export function presets(source) {
  const sorted = distribution(source);
  const between = (low, high) => windowBetween(quantile(sorted, low), quantile(sorted, high), grainOf(source));
  const [low, high] = [between(0.01, 0.5), between(0.5, 0.99)];
  const fromValues = [
    { id: "full", name: "Full range", window: between(0, 1) },
    { id: "contrast", name: "More contrast", window: between(0.1, 0.9) },
    { id: "dark", name: "Dark areas", window: source.isInverse ? high : low },
    { id: "bright", name: "Bright areas", window: source.isInverse ? low : high },
  ];
  const hounsfield = source.isHounsfield ? CT.map(([id, name, level, width]) => ({ id, name, window: { level, width } })) : [];
  return [...hounsfield, ...fromValues];
}

/** Return the window after a drag by shares of the frame: to the right is wider, up shows low values brighter. `range` is that of `reach`. */
export function dragged({ level, width }, right, down, range, grain = 1) {
  return { level: level + down * range, width: Math.max(range / 500, 2 * grain, width + right * range) };
}

/** Return the gray levels of the values from `first` to `last`, in a window of units, where `slope` and `intercept` lead. */
export function levels({ first, last, padding = null, slope = 1, intercept = 0, isInverse = false }, window, isInverted) {
  const grain = grainOf({ slope });
  const table = new Uint8Array(last - first + 1);
  for (let at = 0; at < table.length; at += 1) {
    const level = Math.round(grayLevel((first + at) * slope + intercept, window, grain));
    table[at] = isPadding(first + at, padding) ? 0 : isInverse !== isInverted ? 255 - level : level;
  }
  return table;
}

/**
 * Draw every `stride`-th value of a row and every `stride`-th row with their gray levels into the pixels of a canvas (RGBA).
 *
 * Values in steps of four are RGBA, too.
 */
export function paint({ values, first, width, height, step = 1 }, table, pixels, stride = 1) {
  const words = new Uint32Array(pixels.buffer, pixels.byteOffset, pixels.length / 4); // alpha is the highest byte
  const gray = Uint32Array.from(table, (level) => 0xff000000 | (level * 0x010101));
  let to = 0;
  for (let row = 0; row < height; row += stride) {
    for (let at = row * width * step, end = at + width * step; at < end; at += stride * step) {
      words[to] = step === 1
        ? gray[values[at] - first]
        : 0xff000000 | (table[values[at + 2]] << 16) | (table[values[at + 1]] << 8) | table[values[at]];
      to += 1;
    }
  }
}

/** Return the smallest and the largest number. */
export function extent(values) {
  let [first, last] = [Infinity, -Infinity];
  for (let at = 0; at < values.length; at += 1) { // an iterator is slower, and a film has ten million values
    if (values[at] < first) first = values[at];
    if (values[at] > last) last = values[at];
  }
  return [first, last];
}

/**
 * Return the source of windows for stored values that the picture (RGBA) shows: with their first window, and whether high values are dark.
 *
 * Null if the picture does not show these values: then equal values have different gray levels, or the levels do not follow a line.
 */
export function sourceOf(stored, picture) {
  const { values, slope, intercept, padding } = stored;
  const stride = Math.max(1, Math.floor(values.length / SAMPLES));
  const seen = new Map();
  const pairs = [];
  let [count, faults] = [0, 0];
  for (let at = 0; at < values.length; at += stride) {
    const [value, level] = [values[at], picture[4 * at]];
    if (isPadding(value, padding)) continue;
    if (!seen.has(value)) seen.set(value, level);
    count += 1;
    if (Math.abs(seen.get(value) - level) > TOLERANCE) faults += 1;
    if (level > 5 && level < 250) pairs.push([value * slope + intercept, level]);
  }
  if (faults > count / 100 || pairs.length < 2) return null;
  const grain = grainOf(stored);
  const line = fitted(pairs, grain);
  if (line === null) return null;
  const apart = pairs.filter(([value, level]) => Math.abs(127.5 + line.rise * (value - line.level + grain / 2) - level) > TOLERANCE).length;
  if (apart > pairs.length / 100) return null;
  const [first, last] = extent(values);
  return { ...stored, step: 1, first, last, isInverse: line.rise < 0, own: declared(stored.window, line, grain) };
}

/** Return the window of the line through pairs of a value and a gray level, with its rise; null if it is level. */
function fitted(pairs, grain) {
  const mean = (index) => pairs.reduce((sum, pair) => sum + pair[index], 0) / pairs.length;
  const [value, level] = [mean(0), mean(1)];
  let [covariance, variance] = [0, 0];
  for (const pair of pairs) {
    covariance += (pair[0] - value) * (pair[1] - level);
    variance += (pair[0] - value) ** 2;
  }
  const rise = covariance / variance;
  if (!Number.isFinite(rise) || rise === 0) return null;
  const width = 255 / Math.abs(rise) + grain;
  return { rise, width, level: value + (127.5 - level) / rise + grain / 2 };
}

/** Return the file's window if the picture has it, else that of the line, rounded. */
function declared(window, { level, width }, grain) {
  const isSame = window && Math.abs(window.level - level) < 0.03 * width && Math.abs(window.width - width) < 0.03 * width;
  return isSame ? window : { level: rounded(level, grain), width: Math.max(2 * grain, rounded(width, grain)) };
}
