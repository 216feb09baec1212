// Numbers, times and names as people read them.

/** A probability; what is nearly certain is never shown as certain. */
export function percent(value) {
  if (value > 0 && value < 0.001) return "<0.1 %";
  if (value < 1 && value > 0.999) return ">99.9 %";
  return `${(100 * value).toFixed(1)} %`;
}

/** Bytes. */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 999_500) return `${Math.round(bytes / 1000)} kB`;
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

/** A moment, in this place's time. */
export function moment(text) {
  const at = new Date(text);
  return Number.isNaN(at.getTime()) ? text : at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

/** The name of a file without what its ending says, for files made of it. */
export function stem(name) {
  return name.replace(/\.[^.]{1,8}$/, "") || name;
}

const FIGURES = {
  auroc: "AUROC", sensitivity: "Sensitivity", specificity: "Specificity",
  accuracy: "Accuracy", dice_patient: "Dice by patient", dice_slice: "Dice of slices",
};

/** The figures of a version that are worth a line, with their intervals. */
export function figures(found) {
  return Object.entries(FIGURES).filter(([key]) => key in found).slice(0, 3).map(([key, name]) => {
    const { value, ci95: [low, high] } = found[key];
    return [name, `${value.toFixed(3)} (${low.toFixed(3)} to ${high.toFixed(3)})`];
  });
}
