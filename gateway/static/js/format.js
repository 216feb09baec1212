// Formats numbers, times, names and labels for users.

const MAX_NAMES = 5;

/** Format a probability; values near 0 and 1 are never rounded to certainty. */
export function percent(value) {
  if (value > 0 && value < 0.001) return "<0.1%";
  if (value < 1 && value > 0.999) return ">99.9%";
  return `${(Math.round(1000 * value + 1e-9) / 10).toFixed(1)}%`; // 0.9605 is 96.1%, although its double is below
}

/** Format a cut-off: "50%", "47.4%"; near 0 and 1 with two significant digits of the distance: "0.0021%", "99.9979%". */
export function cutoff(value) {
  const digits = 1 - Math.floor(Math.log10(100 * Math.min(value, 1 - value)));
  return `${(100 * value).toFixed(Math.min(20, Math.max(1, digits))).replace(/\.?0+$/, "")}%`;
}

/** Format a probability and its cut-off, with as many digits as tell them apart. */
export function compared(value, threshold) {
  let texts = [percent(value), cutoff(threshold)];
  for (let digits = 2; digits < 7 && value !== threshold && parseFloat(texts[0]) === parseFloat(texts[1]); digits += 1) {
    texts = [value, threshold].map((number) => `${(100 * number).toFixed(digits)}%`);
  }
  return texts;
}

/** Format a share of images exactly: "50%", "0.02%". */
export const share = (value) => `${Number((100 * value).toFixed(4))}%`;

/** Return a number with its noun: "1 image", "2 images". */
export const counted = (number, noun, plural = `${noun}s`) => `${number} ${number === 1 ? noun : plural}`;

/** Name the first files of a list. */
export function fileNames(files) {
  const rest = files.length > MAX_NAMES ? ` and ${files.length - MAX_NAMES} more` : "";
  return `${files.slice(0, MAX_NAMES).map(({ name }) => name).join(", ")}${rest}`;
}

/** Format a number of bytes. */
export function fileSize(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 999_500) return `${Math.round(bytes / 1000)} kB`;
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

/** Format a time in the user's time zone. */
export function localTime(text) {
  const time = new Date(text);
  return Number.isNaN(time.getTime()) ? text : time.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

/** Return the name of an image without its extension. Names that are UIDs have dots, but none. */
export const stem = (name) => name.replace(/\.(dcm|dicom|png|jpe?g|webp|tiff?|bmp|gif)$/i, "") || name;

/** Return a name without its middle if it is long: its end often has the number of the image. */
export const shortened = (name, length = 36) => (name.length > length ? `${name.slice(0, length - 16)}…${name.slice(-15)}` : name);

/** Return a text with an upper-case first letter. */
export const capitalize = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** Whether the label of a result must not be shown as a claim: its prediction set does not contain it alone. */
export const isUncertain = ({ certainty }) => certainty?.status === "uncertain";

/** Return a text with a lower-case first letter, unless it begins with an abbreviation. */
export const uncapitalize = (text) => (/^.[A-Z]/.test(text) ? text : text.charAt(0).toLowerCase() + text.slice(1));

const SCORES = {
  auroc: "AUROC", sensitivity: "Sensitivity", specificity: "Specificity",
  accuracy: "Accuracy", dice_patient: "Dice per patient", dice_slice: "Dice per slice",
};

const SHARES = new Set(["sensitivity", "specificity", "accuracy"]);

/** Return the most important scores of a model version with their confidence intervals. */
export function scores(figures) {
  return Object.entries(SCORES).filter(([key]) => key in figures).slice(0, 3).map(([key, name]) => {
    const { value, ci95: [low, high] } = figures[key];
    const text = SHARES.has(key) ? percent : (number) => number.toFixed(3);
    return [name, `${text(value)} (${text(low)} to ${text(high)})`];
  });
}
