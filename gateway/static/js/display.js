// What people see of a model: names, purpose and limits in words. Ids are for programs.

import { capitalize, isUncertain } from "./format.js";

const OTHER = "Other images";

/** Return the display name of a model; `version` is its catalog entry or null. */
export const displayName = (version, name) => version?.display?.name ?? version?.title ?? name;

/** Return what a positive result shows, in a sentence: "pneumonia pattern". */
export const findingName = (version, positive) => version?.display?.finding ?? positive;

/** Return the name of a label, the same in results, history and filters; `version` is the catalog entry or null. */
export function labelName(label, version) {
  const finding = findingName(version, version?.positive);
  if (finding && label === version.positive) return capitalize(finding);
  return finding && version.task === "segmentation" ? `No ${finding} marked` : capitalize(label);
}

/** Return the label of a result, or that it is uncertain. */
export function labelText({ label, positive, isMask, certainty }, version) {
  if (isUncertain({ certainty })) return "Uncertain";
  return isMask && positive === false && version === null ? "Nothing marked" : labelName(label, version); // the label names the background
}

/** Whether pictures of a camera are what a model is for. */
export const acceptsPhotographs = (version) => version?.display?.photographs ?? false;

/** Return what the model is for and what not, as pairs of a term and a text. */
export function intendedUse(version) {
  if (!version) return [["For", "Not known: the archive of this result is not served any more."]];
  const { display } = version;
  if (!display) return [["For", "Not stated. See the model card."]];
  return [["For", display.scope], ["Not for", display.not_for]];
}

/**
 * Return the models in groups of the same kind of image: `[heading, models]`.
 *
 * Photographs and models without a description come last, within a group those with a warning.
 */
export function grouped(models) {
  const groups = new Map();
  for (const model of models) {
    const heading = capitalize(model.versions[0].display?.group ?? OTHER);
    groups.set(heading, [...(groups.get(heading) ?? []), model]);
  }
  const isLast = ([heading, [{ versions: [entry] }]]) => (heading === OTHER ? 2 : Number(acceptsPhotographs(entry)));
  for (const group of groups.values()) group.sort((one, other) => rank(one) - rank(other) || nameOf(one).localeCompare(nameOf(other)));
  return [...groups].sort((one, other) => isLast(one) - isLast(other) || one[0].localeCompare(other[0]));
}

const rank = ({ versions: [entry] }) => Number(entry.warning !== null);
const nameOf = ({ name, versions: [entry] }) => displayName(entry, name);
