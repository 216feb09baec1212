// Colours of heat maps and masks. Pure functions, without the page.

/**
 * Viridis of matplotlib (CC0) in nine steps: lighter with each value, so that colour-blind readers and gray prints keep the
 * order, never gray, as films are, and without red, which would look like an alarm.
 */
const VIRIDIS = [
  [68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37],
];
export const MASK = Object.freeze([255, 0, 255]);

/** Return red, green and blue of a value from 0 to 1. */
export function heatColour(value) {
  const position = Math.min(1, Math.max(0, value)) * (VIRIDIS.length - 1);
  const left = Math.min(Math.floor(position), VIRIDIS.length - 2);
  return VIRIDIS[left].map((part, index) => Math.round(part + (VIRIDIS[left + 1][index] - part) * (position - left)));
}

/** Return red, green, blue and alpha for each of the 256 values of a heat map or a mask; 0 is transparent. */
export function overlayColours(kind) {
  return Array.from({ length: 256 }, (_, value) => (kind === "heat"
    ? [...heatColour(value / 255), Math.min(255, Math.round(value * 1.6))]
    : [...MASK, value > 127 ? 255 : 0]));
}
