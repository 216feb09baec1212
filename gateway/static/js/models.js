// The models: which one is chosen, what it is, its card, and samples to try it with.

import { get } from "./api.js";
import { button, byId, make, say, terms } from "./dom.js";
import { prose } from "./prose.js";
import { show } from "./refusals.js";
import { figures, percent } from "./words.js";

const narrow = matchMedia("(max-width: 900px)");
let models = [];

/** All models that are served. */
export const all = () => models;

/** What is known of a version; null for what is served no more. */
export function find(name, version) {
  return models.find((model) => model.name === name)?.versions.find((item) => item.version === version) ?? null;
}

/** The same; of a version that came after this page was opened, too. */
export async function known(name, version) {
  if (find(name, version) === null) ({ models } = await (await get("api/models")).json());
  return find(name, version);
}

/** Which model is chosen: `name`, and `version` where one is chosen (null: the server's choice). */
export function chosen() {
  const [name, version] = byId("model").value.split(" ");
  return { name, version: version ?? null };
}

/** Choose a model. */
export function choose(name) {
  byId("model").value = name;
  describe();
}

/** Ask what is served, and show it; `onSample` gets a sample that is to be analysed. */
export async function load(onSample) {
  const select = byId("model");
  try {
    ({ models } = await (await get("api/models")).json());
  } catch (error) {
    select.replaceChildren(make("option", {}, "No models"));
    show("The list of models", error, () => load(onSample));
    return;
  }
  select.replaceChildren(...models.flatMap(options));
  select.disabled = models.length === 0;
  if (models.length === 0) select.replaceChildren(make("option", {}, "No model is served"));
  select.onchange = describe;
  describe();
  byId("samples").replaceChildren(...models.map((model) => sample(model, onSample)));
}

function options({ name, versions }) {
  if (versions.length === 1) return [make("option", { value: name }, name)];
  const shares = versions.map(({ version, share }) => `${version} ${Math.round(share)} %`).join(", ");
  return [
    make("option", { value: name }, `${name} (${shares})`),
    ...versions.map(({ version }) => make("option", { value: `${name} ${version}` }, `${name} ${version}`)),
  ];
}

function describe() {
  const { name, version } = chosen();
  const model = models.find((item) => item.name === name);
  if (!model) return;
  const found = find(name, version ?? model.versions[0].version);
  byId("model-about").replaceChildren(
    make("p", { class: "model-title" }, found.title),
    found.warning ? make("p", { class: "warning" }, found.warning) : "",
    make("details", { open: !narrow.matches }, make("summary", {}, "In short"), terms([
      ["Answers", found.task === "segmentation" ? "A mask on the image" : found.labels.join(", ")],
      ["Threshold", found.threshold === null ? null : percent(found.threshold)],
      ["Version", version ?? model.versions.map((item) => item.version).join(", ")],
      ...figures(found.figures),
    ]), Object.keys(found.figures).length
      ? make("p", { class: "small" }, "Validation side, 95 % interval; expect less elsewhere.") : null),
    button("Model card", () => card(name, found.version)),
  );
}

/** Show a model's card: architecture, data, figures, limits. */
export async function card(name, version) {
  const dialog = byId("card");
  const text = byId("card-text");
  text.replaceChildren(make("p", {}, "Loading …"));
  byId("card-heading").textContent = `${name} ${version}`;
  dialog.showModal();
  try {
    text.replaceChildren(facts(name, version), prose(await (await get(`api/models/${name}/${version}/card`, "text/html")).text()));
    text.scrollTop = 0;
  } catch (error) {
    dialog.close();
    show(`The card of ${name} ${version}`, error, () => card(name, version));
  }
}

function facts(name, version) {
  const found = find(name, version);
  return found === null ? "" : terms([
    ["Task", found.task], ["Network sees", `${found.input.width} × ${found.input.height} pixels, ${found.input.color}`],
    ["Archive", make("code", {}, found.sha256)],
  ]);
}

function sample({ name, versions: [{ version, title }] }, onSample) {
  const frame = make("span", { class: "thumb" });
  const item = make("li", {}, make("button", {
    type: "button", class: "sample", "aria-label": `Analyse the sample of ${name}: ${title}`, title,
    on: { click: () => start() },
  }, frame, make("span", { class: "sample-name" }, name)));
  let blob = null;
  const start = () => {
    if (blob === null) return;
    choose(name);
    say(`${name}: its sample is being analysed.`);
    onSample(new File([blob], `${name}-sample.png`, { type: "image/png" }));
  };
  get(`api/models/${name}/${version}/sample`, "image/png").then(async (response) => {
    blob = await response.blob();
    frame.append(make("img", { src: URL.createObjectURL(blob), alt: "" }));
  }).catch(() => item.remove()); // a model without a sample has none to offer
  return item;
}
