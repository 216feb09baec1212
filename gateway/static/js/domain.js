// What the page says about images that are not like the training images, and about their repair.

import { button, make } from "./dom.js";
import { counted, percent, uncapitalize } from "./format.js";

const ORIGINAL = "Use the original image.";

const REASONS = {
  other_image: `It may show another body part, or be turned, cropped, edited, or a photo of a screen. ${ORIGINAL}`,
  dark: `It is darker than the training images, or has wider margins. Brightening or cropping it would not make the result reliable. ${ORIGINAL.slice(0, -1)}, or have it read without the model.`,
};

const UNUSUAL = `It may be of the right kind, but exposed or positioned unusually, cropped or edited. It may also show another body part. ${ORIGINAL}`;

// The server compares every image with the poses, also one of another body part.
const POSES = {
  rotated_90: "turned by 90 degrees to the right",
  rotated_180: "upside down",
  rotated_270: "turned by 90 degrees to the left",
  inverted: "inverted, with light and dark areas swapped",
  null: "turned by 90 degrees to the right or to the left: turn it upright", // the server cannot tell the side
};

const REPAIRS = {
  rotated_90: { name: "rotate-270", text: "Turn by 90 degrees and analyse again" },
  rotated_180: { name: "rotate-180", text: "Turn by 180 degrees and analyse again" },
  rotated_270: { name: "rotate-90", text: "Turn by 90 degrees and analyse again" },
  inverted: { name: "invert", text: "Invert and analyse again" },
};

const REPAIRED = {
  "rotate-90": "turned by 90 degrees to the right",
  "rotate-180": "turned by 180 degrees",
  "rotate-270": "turned by 90 degrees to the left",
  invert: "inverted",
};

const TITLES = { unusual: "Unusual image", unlike: "Unlike the training images" };

/** Return what replaces the headline of a result if the image has a doubtful status. */
export const noResult = (status) => `No result: ${uncapitalize(TITLES[status])}`;

/** Return what images with one of these statuses are: "unusual", "unlike the training images", or both. */
export const doubtText = (statuses) => [["unusual", "unusual"], ["unlike", "unlike the training images"]]
  .flatMap(([status, text]) => (statuses.includes(status) ? text : [])).join(" or ");

const MODES = {
  strict: "Images unlike the training images are rejected",
  warn: "Images unlike the training images are marked, not rejected",
  off: "Off: images are not compared with the training images",
};

/** Whether a result states no finding, because the image is not like the training images. */
export const isDoubtful = (domain) => domain?.status === "unusual" || domain?.status === "unlike";

/** Return why an image is not like the training images, as far as the server can tell; `rejections` is of the model's catalog entry. */
export function reasonText(domain, rejections = null, repair = "") {
  if (domain.near && (repair || domain.reason === "other_image")) return nearText(domain, rejections);
  if (repair && domain.status === "unusual") return domain.reason === "dark" ? REASONS.dark : UNUSUAL;
  if (repair) return `It is still unlike the training images after it was ${REPAIRED[repair]}, so it probably shows another body part, or is not the original image.`;
  const pose = POSES[domain.reason];
  const text = pose ? `It may show another body part. If it does not, it appears to be ${pose}.` : domain.status === "unusual" && domain.reason !== "dark" ? UNUSUAL : REASONS[domain.reason] ?? REASONS.other_image;
  return domain.contradicts ? `${text} The file's ${domain.contradicts} contradicts its pixels; correct the file.` : text;
}

/** Say how often good images are beyond the limit, too; `rejections` counts held-out images, null if unknown. */
function nearText({ mode }, rejections) {
  const { images, rejected } = rejections ?? { rejected: 0 };
  const what = mode === "warn" ? "marked" : "rejected";
  const rate = 10 * rejected > images ? `${rejected} of ${counted(images, "held-out image")} ${rejected === 1 ? "is" : "are"} ${what}.` : `About 1 in ${Math.round(images / rejected)} held-out images is ${what} (${rejected} of ${images}).`;
  const often = rejected ? ` ${rate}` : "";
  return `It is just beyond the limit, so it may be a good image of the right kind.${often} Send the original file, as the scanner exported it; otherwise have it read without the model.`;
}

/** Return the `name` and the button's `text` of the repair that an image may need; null without one. */
export const suggestedRepair = (domain) => (domain?.contradicts ? null : REPAIRS[domain?.reason] ?? null);

/** Return what was done to the image: "inverted"; empty without a repair. */
export const repairText = (repair) => (repair ? REPAIRED[repair] ?? repair : "");

/** Return a file name with the repair of the image. */
export const repairedName = (name, repair) => (repair ? `${name} (${repairText(repair)})` : name);

/** Return what a server does with images unlike the training images; `mode` is null if the model has no detector. */
export const modeText = (mode) => MODES[mode] ?? "Not available for this model";

/** Return how far an image is from the training images: "farther off than 98.4% of the held-out images". */
const rank = (percentile) => `farther off than ${percentile >= 100 ? "all" : `${percent(percentile / 100)} of the`} held-out images`;

/** Return the status of an image in one line. */
export function domainText(domain) {
  if (!domain) return "Not compared: this model has no detector";
  if (domain.mode === "off") return "Not compared with the training images (the operator switched this off)";
  if (isDoubtful(domain)) return `${TITLES[domain.status]} (${rank(domain.percentile)})`;
  return domain.mode === "warn" ? "Like the training images (this server rejects no image)" : "Like the training images";
}

/**
 * Return the note on the prediction of an image that is not like the training images; null for other ones.
 *
 * `repeat` analyses the image again with a repair, null if it cannot. `rejections` is of the catalog entry.
 */
export function domainNote({ domain, repair = "" }, repeat, isSample, rejections = null) {
  if (!isDoubtful(domain)) return null;
  const suggested = repeat && !repair && !isSample ? suggestedRepair(domain) : null;
  return make("div", { class: "warning doubt" },
    make("p", {}, make("strong", {}, `${domainText(domain)}. `), isSample ? "It is a synthetic image." : reasonText(domain, rejections, repair)),
    make("p", {}, "The model may be wrong about such an image, so its output is not a finding."),
    suggested ? button(suggested.text, () => repeat(suggested.name)) : null);
}

/** Return the note on a result of a repaired image; null for other results. */
export function repairNote(repair) {
  if (!repair) return null;
  return make("p", { class: "warning repaired" }, make("strong", {}, "Changed image: "),
    `${repairText(repair)} before the analysis, as you asked. Everything here shows the changed image. ` +
    "The check cannot tell a mirrored image from a turned one: compare the side marker.");
}
