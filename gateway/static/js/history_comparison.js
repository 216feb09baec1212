// Two results side by side: finding, probability, cut-off, pictures, and their difference.

import { archiveVersion } from "./catalog.js";
import { displayName } from "./display.js";
import { domainText, isDoubtful, repairText } from "./domain.js";
import { make } from "./dom.js";
import { capitalize, cutoff, localTime, percent, share } from "./format.js";
import { resultAddress } from "./history_address.js";
import { finding } from "./history_row.js";
import { missingImage } from "./missing_image.js";
import { isMissing, positiveLabel } from "./prediction.js";
import { NO_PICTURE, StoredResult } from "./stored_result.js";

/** Show two stored results; return their cards. */
export function showComparison(body, pair) {
  const isSame = pair[0].entry.image_sha256 === pair[1].entry.image_sha256;
  const file = isSame ? pair.find((stored) => stored.file.size)?.file : null;
  const cards = pair.map((stored) => ({ ...stored, file: stored.file.size ? stored.file : file ?? stored.file })).map((stored) => (stored.prediction ? new StoredResult(stored) : null));
  const lacking = cards.filter((card) => card && !card.hasImage);
  body.replaceChildren(
    ...warnings(...pair).map((text) => make("p", { class: "warning" }, text)),
    make("p", { class: "difference" }, difference(...pair)),
    ...(isSame && lacking.length > 0 ? [missingImage(pair[0].entry.image_sha256, lacking)] : []),
    make("div", { class: "pictures" }, pair.map((stored, index) => make("figure", { class: "panel pictured" },
      make("figcaption", {}, make("strong", {}, caption(stored)), cards[index]?.headline() ?? finding(stored.entry).tag),
      ...(cards[index] ? [cards[index].placeholder, cards[index].viewer.element] : [make("p", { class: "placeholder" }, NO_PICTURE)])))),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Values of both results" },
      make("table", { class: "compared" },
        make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Value"), pair.map((stored) => make("th", { scope: "col" }, caption(stored))))),
        make("tbody", {}, rows(pair).map(([name, values]) => make("tr", { class: new Set(values).size > 1 ? "differs" : null },
          make("th", { scope: "row" }, name), values.map((value) => make("td", {}, value || "–")))))),
    ),
    make("p", { class: "row" }, pair.map(({ entry }) => make("a", { class: "open", href: resultAddress(entry.id) }, `Open the result of ${entry.model} ${entry.version}, ${localTime(entry.time)}`))));
  return cards.filter(Boolean);
}

const caption = ({ entry }) => `${displayName(archiveVersion(entry), entry.model)} ${entry.version}, ${localTime(entry.time)}`;

function rows(pair) {
  const documents = pair.map(({ prediction }) => prediction ?? {});
  const entries = pair.map(({ entry }) => entry);
  const table = [
    ["Result", entries.map((entry) => finding(entry).what)],
    ["Measure", pair.map((stored) => measure(stored)?.text ?? "")],
    ["Cut-off", documents.map(({ threshold }) => (isMissing(threshold) ? "" : cutoff(threshold)))],
    ["Assumed prevalence", entries.map(({ prevalence }) => (isMissing(prevalence) ? "" : share(prevalence)))],
    ["Image check", pair.map(({ prediction, entry }) => (prediction ? domainText(prediction.domain) : entry.domain ?? ""))],
    ["Image", entries.map(({ repair }) => (repair ? capitalize(repairText(repair)) : "As sent"))],
    ["Site profile", entries.map(({ profile }) => profile ?? "")],
    ["Archive SHA-256", entries.map(({ sha256 }) => sha256?.slice(0, 12) ?? "")],
  ];
  return table.filter(([, values]) => values.some(Boolean));
}

/** Return what a result measured: the `name` and `value` of a probability, or of the marked share of the image, and a `text`; null if it may not be shown. */
export function measure({ entry, prediction }) {
  if (isDoubtful({ status: entry.domain })) return null;
  if (prediction?.area) return { name: "marked share of the image", value: prediction.area.fraction, text: `${percent(prediction.area.fraction)} of the image marked` };
  if (!finding(entry).isShown) return null;
  const label = (prediction && positiveLabel(prediction)) ?? entry.label;
  const value = prediction ? prediction.probabilities[label] : entry.probability;
  return { name: `probability of ${label}`, value, text: `Probability of ${label} ${percent(value)}` };
}

/** Say how far two results are apart. */
export function difference(one, other) {
  const [first, second] = [measure(one), measure(other)];
  if (first === null || second === null) return "No difference is shown: at least one image has no result.";
  if (first.name !== second.name) return `The results cannot be subtracted: one has the ${first.name}, the other the ${second.name}.`;
  const points = 100 * (second.value - first.value);
  const size = Math.abs(points) < 0.05 ? (points === 0 ? "no difference" : "less than 0.1 percentage points") : `${points > 0 ? "+" : "−"}${Math.abs(points).toFixed(1)} percentage points`;
  return `Difference in the ${first.name}, second minus first: ${size}.`;
}

/** Say why two results can be compared only in part. */
export function warnings(one, other) {
  const [a, b] = [one.entry, other.entry];
  const [first, second] = [one.prediction?.threshold, other.prediction?.threshold];
  const hasBoth = one.prediction && other.prediction;
  const areAlike = (a.probability === null) === (b.probability === null); // a mask and a probability are not
  const texts = [
    a.image_sha256 !== b.image_sha256 ? "These are results of different images: their difference says nothing about the models." : null,
    a.model !== b.model ? "These are results of different models." : null,
    hasBoth && areAlike && first !== second ? `The cut-offs differ (${text(first)} and ${text(second)}): the same probability can be reported differently.` : null,
    hasBoth ? null : "A cut-off was not kept, because an older release stored the result: the cut-offs may differ.",
    areAlike && a.prevalence !== b.prevalence ? "The probabilities assume different prevalences." : null,
    a.repair !== b.repair ? "The image was changed before one of the analyses only, or in another way." : null,
    a.profile !== b.profile || (hasBoth && one.prediction.profile?.sha256 !== other.prediction.profile?.sha256) ? "The results are from different site profiles, which set the cut-off." : null,
    a.model === b.model && a.version === b.version && a.sha256 !== b.sha256 ? "Both name the same version, but come from different archives." : null,
  ];
  return texts.filter(Boolean);
}

const text = (threshold) => (isMissing(threshold) ? "none" : cutoff(threshold));
