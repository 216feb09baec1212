// A stored result, opened again: its card, what is not kept, and other results of the same image.

import { get, post, Problem } from "./api.js";
import { archiveVersion, hasSameProfile, knownModel, knownVersion } from "./catalog.js";
import { expectNone } from "./claims.js";
import { displayName } from "./display.js";
import { announce, button, byId, make, terms } from "./dom.js";
import { localTime, percent, uncapitalize } from "./format.js";
import { listAddress, resultAddress, seriesAddress } from "./history_address.js";
import { showComparison } from "./history_comparison.js";
import { deleteResults } from "./history_delete.js";
import { finding, imageName } from "./history_row.js";
import { missingImage, missingImages } from "./missing_image.js";
import { checkCatalog, parsePrediction } from "./prediction.js";
import { show, toProblem } from "./rejections.js";
import { loadStored, statedIn, StoredResult } from "./stored_result.js";
import { loadSeries, StoredSeries } from "./stored_series.js";

const MAX_OTHERS = 10;
const MAX_LOADED = 100; // of which the different ones are shown
const OUTPUT = ["model", "version", "sha256", "label", "probability", "positive", "domain", "repair", "certainty", "prevalence", "profile"];
let opened = []; // cards that are shown, to release their images
let current = null; // aborts the loading of what is shown or loaded last

/** Show one result, two side by side, or those of a group as one series; `isNew` moves the focus, `back` returns to the list. */
export async function showOpened({ ids, group }, { isNew, back }) {
  const own = new AbortController();
  current?.abort();
  current = own;
  const region = byId("opened");
  const heading = make("h1", { id: "opened-heading", tabindex: "-1" }, group ? "Stored results" : ids.length > 1 ? "Comparison" : "Stored result");
  const head = make("div", { class: "section-head" }, heading, button("All results", back, { class: "quiet" }));
  const body = make("div", { class: "opened-body" }, make("p", { class: "small", role: "status" }, "Loading …"));
  region.replaceChildren(head, body);
  region.hidden = false;
  if (isNew) heading.focus();
  try {
    const stored = group ? await loadSeries(group, own.signal) : await Promise.all(ids.map((id) => loadStored(id)));
    if (current !== own) return;
    const addDelete = (text, entries) => head.append(button(text, ({ currentTarget }) => remove(entries, back, currentTarget), { class: "quiet" }));
    if (group) {
      addDelete("Delete all", stored.listed);
      showSeries(heading, body, stored);
    } else if (stored.length > 1) opened = showComparison(body, stored);
    else {
      const { entry } = stored[0];
      if (entry.group_size > 1) head.append(make("a", { class: "open", href: seriesAddress(entry.group_id) }, `Open all ${entry.group_size} that were sent together`));
      addDelete("Delete", [entry]);
      showResult(heading, body, stored[0]);
    }
    announce(`${heading.textContent} loaded.`);
  } catch (error) {
    if (current === own) body.replaceChildren(failure(error, () => showOpened({ ids, group }, { isNew: false, back })));
  }
}

/** Remove what is shown, and release its images. */
export function closeOpened() {
  current?.abort();
  current = null;
  expectNone();
  for (const result of opened.splice(0)) result.close();
  byId("opened").replaceChildren();
  byId("opened").hidden = true;
}

function failure(error, retry) {
  const problem = toProblem(error);
  const isGone = problem.status === 404;
  return make("div", { class: "rejections" },
    make("p", {}, make("strong", {}, isGone ? "This result does not exist, or you may not view it." : problem.message)),
    problem.detail ? make("p", { class: "small" }, isGone ? "Results are deleted after the time that the server keeps them." : `Details: ${problem.detail}`) : null,
    problem.canRetry ? button("Try again", retry) : null);
}

function showResult(heading, body, stored) {
  const { entry, prediction } = stored;
  heading.textContent = `Stored result of ${localTime(entry.time)}`;
  const card = prediction ? new StoredResult(stored) : null;
  if (card) opened = [card];
  body.replaceChildren(
    ...notices(stored),
    ...(card && !card.hasImage ? [missingImage(entry.image_sha256, [card])] : []),
    make("h2", { class: "visually-hidden" }, "Result"),
    make("ul", { class: "results" }, card ? card.element : summary(entry)),
    others(stored, card));
}

function showSeries(heading, body, stored) {
  const card = new StoredSeries(stored);
  opened = [card];
  heading.textContent = `Stored ${uncapitalize(card.name)}`;
  const mask = stored.outcomes.every(({ entry }) => !entry || entry.overlay) || null;
  body.replaceChildren(...notices({ ...stored, prediction: { ...stored.prediction, ...("mask" in stored.prediction ? { mask } : {}) }, heatMap: null }),
    ...(card.missing.length > 0 ? [missingImages(card.missing, card)] : []),
    make("h2", { class: "visually-hidden" }, "Result"), make("ul", { class: "results" }, card.element));
}

/** Say what differs from the day of the result, and what is not kept. */
function notices({ entry, prediction, version, heatMap }) {
  const known = knownVersion(entry.model, entry.version);
  const subject = `Version ${entry.version} of ${entry.model}`;
  const texts = [
    known === null ? `${subject} is retired: its model card and figures are not served any more. This page shows what the result itself holds.` : null,
    known !== null && version === null ? `${subject} is now served from another archive than the one of this result, whose model card and figures are not served any more. This page shows what the result itself holds.` : null,
    version && prediction && !hasSameProfile(version, prediction) ? `${subject} is now served with another site profile than at the time of this result, so its figures are not shown.` : null,
    prediction === null ? "An older release of this server stored this result, without probabilities, cut-off and image. Analyse the image again for these." : null,
    prediction && "mask" in prediction && prediction.mask === null ? "The mask was not kept." : null,
    prediction && entry.explained && !heatMap ? "A heat map was computed for this result, but not kept." : null,
  ];
  return texts.filter(Boolean).map((text) => make("p", { class: "warning" }, text));
}

/** Show what the list shows, for results of older releases. */
function summary(entry) {
  const { tag, isShown, label } = finding(entry);
  return make("li", { class: "panel" }, make("h3", {}, imageName(entry)), make("p", {}, tag), terms([
    ["Model", `${entry.model} ${entry.version}`],
    ["Probability", isShown ? `${percent(entry.probability)} (${label})` : null],
    ["Image SHA-256", make("code", {}, entry.image_sha256)],
    ["Result ID", make("code", {}, entry.id)],
  ]));
}

/** Show the other results of the image, to compare with, and offer another version. */
function others({ entry, prediction }, card) {
  const list = make("ul", { class: "others" }, make("li", { class: "small" }, "Loading …"));
  const section = make("section", { class: "panel others-panel" }, make("h2", {}, "Compare on the same image"), list,
    card && !card.isFrame ? again(entry, prediction, card) : null);
  loadOthers(entry, list).catch((error) => show("Other results of this image", error));
  return section;
}

/** Return results without those that say the same as a newer one. */
export const distinct = (entries) => [...Map.groupBy(entries, (entry) => JSON.stringify(OUTPUT.map((name) => entry[name]))).values()].map(([newest]) => newest);

async function loadOthers(entry, list) {
  const parameters = new URLSearchParams({ image: entry.image_sha256, limit: MAX_LOADED });
  const { results, next } = await (await get(`api/results?${parameters}`)).json();
  const different = distinct(results.filter(({ id }) => id !== entry.id));
  const others = different.slice(0, MAX_OTHERS);
  list.replaceChildren(...others.map((other) => make("li", {},
    make("div", {}, make("span", {}, displayName(archiveVersion(other), other.model)), make("span", { class: "identifier" }, ` ${other.model} ${other.version}`)),
    make("div", { class: "small" }, localTime(other.time)), finding(other).tag,
    make("a", { class: "open", href: resultAddress(entry.id, other.id), "aria-label": `Compare with the result of ${localTime(other.time)}, version ${other.version}` }, "Compare"))));
  if (others.length === 0) list.append(make("li", { class: "small" }, "There are no other results of this image."));
  if (different.length < results.length - 1 || different.length > MAX_OTHERS || next !== null) list.append(make("li", {}, make("a", { class: "open", href: listAddress({ image: entry.image_sha256 }) }, "All results of this image")));
}

/** Offer to analyse the image again, with any served version of the model. */
function again(entry, prediction, card) {
  const versions = knownModel(entry.model)?.versions ?? [];
  if (versions.length === 0) return null;
  const select = make("select", { id: "again-version" }, versions.map(({ version }) => make("option", { value: version }, version)));
  select.value = (versions.find(({ version }) => version !== entry.version) ?? versions[0]).version;
  const act = button("Analyse and compare", () => analyseAgain(entry, prediction, card, select.value, act), { disabled: !card.hasImage });
  const note = make("p", { class: "small", hidden: card.hasImage }, "This requires the image.");
  card.onImage = () => {
    act.disabled = false;
    note.hidden = true;
  };
  return make("div", { class: "again" }, make("div", {}, make("label", { for: select.id }, "Analyse again with version"), select), act, note);
}

async function analyseAgain(entry, prediction, card, version, act) {
  const own = current;
  act.disabled = true;
  act.textContent = "Analysing …";
  const stated = statedIn(prediction);
  try {
    const expected = { name: entry.model, version, sha256: entry.image_sha256, ...stated };
    const result = parsePrediction(await post(`api/predictions/${entry.model}/${version}`, card.fileToSend(), stated), expected);
    checkCatalog(result, knownVersion(entry.model, version));
    if (result.history !== "kept") throw new Problem("The result was not saved, because the history is unavailable, so it cannot be compared. Try again later.", { canRetry: false });
    if (current === own) location.hash = resultAddress(entry.id, result.id);
    else announce(`Version ${version} has analysed ${card.name}. The result is in the history.`);
  } catch (error) {
    show(`${card.name}, version ${version}`, error);
  }
  act.disabled = false;
  act.textContent = "Analyse and compare";
}

async function remove(entries, back, control) {
  const own = current;
  const text = await deleteResults(entries, control);
  if (!text) return;
  if (current === own) await back(); // else another result or view is shown
  announce(text);
}
