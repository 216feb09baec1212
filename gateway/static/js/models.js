// Models: selection, description, model cards, and sample images.

import { get } from "./api.js";
import { showFields } from "./assurances.js";
import { modeText } from "./domain.js";
import { announce, button, byId, make, terms } from "./dom.js";
import { showPrevalence } from "./prevalence.js";
import { show } from "./rejections.js";
import { safeHtml } from "./safe_html.js";
import { capitalize, cutoff, modelName, scores } from "./format.js";

const narrow = matchMedia("(max-width: 900px)");
const samples = new WeakSet(); // files with the sample of a model
let models = [];

/** Whether a file is the synthetic sample of a model, which is never refused. */
export const isSample = (file) => samples.has(file);

/** All models of the catalog. */
export const allModels = () => models;

/** Return a version of the loaded catalog; null if it is not served. */
export function knownVersion(name, version) {
  return models.find((model) => model.name === name)?.versions.find((item) => item.version === version) ?? null;
}

/** Return a version; reloads the catalog if the version is newer than the page. */
export async function findVersion(name, version) {
  if (knownVersion(name, version) === null) await loadCatalog();
  return knownVersion(name, version);
}

async function loadCatalog() {
  ({ models } = await (await get("api/models")).json());
}

/** Return the selected model: `name`, and `version` (null lets the server choose). */
export function selectedModel() {
  const [name, version] = byId("model").value.split(" ");
  return { name, version: version ?? null };
}

/** Load and show the catalog; `onSample` receives a sample image to analyse. */
export async function load(onSample) {
  const select = byId("model");
  try {
    await loadCatalog();
  } catch (error) {
    select.replaceChildren(make("option", {}, "No models"));
    show("List of models", error, () => load(onSample));
    return;
  }
  select.replaceChildren(...models.flatMap(options));
  select.disabled = models.length === 0;
  if (models.length === 0) select.replaceChildren(make("option", {}, "No models available"));
  select.onchange = describe;
  describe();
  byId("samples").replaceChildren(...models.map((model) => sample(model, onSample)));
}

function options({ name, versions }) {
  const text = modelName(versions[0], name);
  if (versions.length === 1) return [make("option", { value: name }, text)];
  const shares = versions.map(({ version, share }) => `${version} ${Math.round(share)}%`).join(", ");
  return [
    make("option", { value: name }, `${text}: ${shares}`),
    ...versions.map(({ version }) => make("option", { value: `${name} ${version}` }, `${text}, version ${version}`)),
  ];
}

function describe() {
  const { name, version } = selectedModel();
  const model = models.find((item) => item.name === name);
  if (!model) return;
  const entry = knownVersion(name, version ?? model.versions[0].version);
  showFields(entry.scope ?? []);
  showPrevalence(name, entry.prevalence ?? null);
  const shownScores = scores(entry.figures);
  byId("model-about").replaceChildren(
    make("p", { class: "model-title" }, entry.title),
    entry.warning ? make("p", { class: "warning" }, entry.warning) : "",
    make("details", { open: !narrow.matches }, make("summary", {}, "At a glance"), terms([
      ["Possible results", entry.task === "segmentation" ? "A mask on the image" : entry.labels.map(capitalize).join(", ")],
      ["Cut-off", entry.threshold === null ? null : cutoff(entry.threshold)],
      ["Site profile", entry.profile ? entry.profile.name : null],
      ["Image check", modeText(entry.domain)],
      ["Model ID", name],
      ["Version", version ?? model.versions.map((item) => item.version).join(", ")],
      ...shownScores,
    ]), shownScores.length
      ? make("p", { class: "small" }, `Measured ${entry.profile ? "as shipped, without the site profile, " : ""}on held-out images (95% CI). Expect lower accuracy on yours.`) : null),
    button("Model card", () => showCard(name, entry.version)),
    make("p", { class: "small" }, "Intended use and limits; not approved by any regulator."),
  );
}

/** Show a model card: intended use, data, accuracy, limits. */
export async function showCard(name, version) {
  const dialog = byId("card");
  const text = byId("card-text");
  const entry = knownVersion(name, version);
  text.replaceChildren(make("p", {}, "Loading …"));
  byId("card-heading").textContent = `${modelName(entry, name)}, version ${version}`;
  dialog.showModal();
  try {
    const html = await (await get(`api/models/${name}/${version}/card`, "text/html")).text();
    text.replaceChildren(entry ? facts(entry) : "", safeHtml(html));
    text.scrollTop = 0;
  } catch (error) {
    dialog.close();
    show(`Model card of ${name} ${version}`, error, () => showCard(name, version));
  }
}

function facts({ task, input, sha256 }) {
  return terms([
    ["Task", capitalize(task)],
    ["Model input", `${input.width} × ${input.height} pixels, ${input.color === "rgb" ? "colour" : "grayscale"}`],
    ["Archive SHA-256", make("code", {}, sha256)],
  ]);
}

function sample({ name, versions: [entry] }, onSample) {
  const frame = make("span", { class: "thumb" });
  const item = make("li", {}, make("button", {
    type: "button", class: "sample", "aria-label": `Analyse the sample of ${modelName(entry, name)}`, title: entry.title,
    on: { click: () => start() },
  }, frame, make("span", { class: "sample-name" }, entry.title, make("span", { class: "sample-id" }, name))));
  const image = get(`api/models/${name}/${entry.version}/sample`, "image/png").then((response) => response.blob());
  const start = () => image.then((blob) => {
    byId("model").value = name;
    describe();
    announce(`Analysing the sample of ${entry.title}.`);
    const file = new File([blob], `${name}-sample.png`, { type: "image/png" });
    samples.add(file);
    onSample(file);
  }, () => {});
  image.then(
    (blob) => frame.append(make("img", { src: URL.createObjectURL(blob), alt: "" })),
    () => item.remove(), // the model has no sample
  );
  return item;
}
