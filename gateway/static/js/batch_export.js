// Downloads of the table of many files: a CSV file, and a zip file with the complete predictions.

import { readerOf, statusOf } from "./batch_rows.js";
import { toCsv } from "./csv.js";
import { isDoubtful, reasonText, repairedName } from "./domain.js";
import { save } from "./dom.js";
import { toPng } from "./pictures.js";
import { claimOf, nextStep } from "./verdict.js";
import { zip } from "./zip_writer.js";

const COLUMNS = ["file", "status", "result", "label", "probability", "positive_label", "positive_probability", "cut_off", "marked_fraction", "reason", "detail", "image_check",
  "model", "version", "prevalence", "repair", "warning", "notes", "image_sha256", "result_id", "time", "prediction_file", "mask_file"];
const RESERVED = /^(con|prn|aux|nul|com\d|lpt\d) *(\.|$)/i; // names of devices on Windows
const BOM = "\ufeff"; // or spreadsheets read UTF-8 as another encoding
const NOTE = `Results of RadServe: results.csv has one line for each file, predictions/ what the server returned for each analysed file, masks/ the outlines,
masks-unreliable/ those of images that are unusual or unlike the training images, which are not findings.
Not a medical device. For research only; do not use it for patient care.
A prediction names a label even where results.csv does not: where the image is unusual or unlike the training images (status unusual; image_check says which), or the result is uncertain (status
uncertain), there is no result. Have these images read without the model; detail says what else to do.
`;

/** Return the rows as CSV, one line for each file. Uncertain and doubtful results have no label and no values. */
function batchCsv(rows, names) {
  return toCsv([COLUMNS, ...rows.map((row) => {
    const { prediction, version, problem } = row;
    const claim = claimOf(prediction);
    return [row.path, statusOf(row).toLowerCase(), prediction ? row.text : "", claim.label, claim.probability, claim.positiveLabel, claim.positiveProbability, claim.threshold, claim.area?.fraction,
      problem?.message ?? doubtOf(row), problem?.detail ?? adviceOf(row), prediction?.domain?.status, prediction?.model.name ?? row.model.name, prediction?.model.version ?? row.model.version,
      prediction?.prevalence, row.model.repair, prediction?.warning ?? version?.warning, prediction?.notes?.join(" "), prediction?.image.sha256, prediction?.id, prediction?.time,
      prediction && predictionPath(row, names), prediction?.mask && maskPath(row, names)];
  })]);
}

/** Return why an image that is not like the training images has no result; null for other ones. */
const doubtOf = ({ prediction, version }) => (isDoubtful(prediction?.domain) ? reasonText(prediction.domain, version?.rejections, prediction.repair) : null);

/** Return what to do with an image without a finding; null for other ones. */
const adviceOf = ({ kind, prediction }) => (["doubtful", "uncertain"].includes(kind) ? nextStep(kind, prediction) : null);

/** Download the CSV file. */
export function saveCsv(rows) {
  save(new Blob([BOM, batchCsv(rows, namesOf(rows))], { type: "text/csv;charset=utf-8" }), `${fileName(rows)}.csv`);
}

/** Download a zip file with the CSV file and what the server returned. */
export async function saveZip(rows) {
  save(await zip(await exported(rows)), `${fileName(rows)}.zip`);
}

/** Return the entries of the zip file: `path` and `content`. */
export async function exported(rows) {
  const names = namesOf(rows);
  const entries = [{ path: "README.txt", content: NOTE.replaceAll("\n", "\r\n") }, { path: "results.csv", content: BOM + batchCsv(rows, names) }];
  for (const row of names.keys()) {
    const { prediction } = row;
    entries.push({ path: predictionPath(row, names), content: JSON.stringify(prediction, null, 2) });
    if (prediction.mask) entries.push({ path: maskPath(row, names), content: new Uint8Array(await toPng(prediction.mask.data).arrayBuffer()) });
  }
  return entries;
}

const predictionPath = (row, names) => `predictions/${names.get(row)}.json`;
const maskPath = (row, names) => `${claimOf(row.prediction).area ? "masks" : "masks-unreliable"}/${names.get(row)}.png`;

/** Return a different name for each row with a result. */
function namesOf(rows) {
  const taken = new Set();
  return new Map(rows.filter(({ prediction }) => prediction).map((row) => [row, uniqueName(safePath(repairedName(row.path, row.model.repair)), taken)]));
}

/** Return a name that says which model answered, and on which day. */
function fileName(rows) {
  const readers = rows.map(readerOf);
  const names = new Set(readers.map(({ name }) => name));
  const versions = new Set(readers.flatMap(({ version }) => version ?? []));
  return ["radserve", ...(names.size === 1 ? [...names, ...versions] : [`${names.size}-models`]), new Date().toISOString().slice(0, 10)].join("-");
}

/** Return a path that stays in the folder it is unpacked to, on every operating system. */
const safePath = (path) => path.split(/[/\\]/).filter((part) => part !== "" && part !== ".")
  .map((part) => part.replace(/[<>:"|?*\u0000-\u001f]/g, "_").trimStart().replace(/[. ]+$/, "").replace(RESERVED, "_$&") || "_").join("/");

function uniqueName(name, taken) {
  let unique = name;
  for (let count = 2; taken.has(unique.toLowerCase()); count += 1) unique = `${name} (${count})`;
  taken.add(unique.toLowerCase());
  return unique;
}
