// Downloads of the table of many files: a CSV file, and a zip file with the complete predictions.

import { STATES } from "./batch_rows.js";
import { toCsv } from "./csv.js";
import { save } from "./dom.js";
import { stem } from "./format.js";
import { toPng } from "./pictures.js";
import { zip } from "./zip_writer.js";

const COLUMNS = ["file", "status", "result", "label", "probability", "cut_off", "marked_fraction", "reason", "detail", "image_check",
  "model", "version", "prevalence", "repair", "warning", "image_sha256", "result_id", "time"];
const CLAIMS = new Set(["positive", "negative", "ranked"]);
const BOM = "\ufeff"; // or spreadsheets read UTF-8 as another encoding
const NOTE = `Results of RadServe: results.csv has one line for each file, predictions/ what the server returned for each analysed file, masks/ the outlines.
Not a medical device. For research only; do not use it for patient care.
A prediction names a label even where results.csv does not: where the image is unlike the training images or the result is uncertain, it is not a finding.
`;

/** Return the rows as CSV, one line for each file. Uncertain and doubtful results have no label. */
export function batchCsv(rows) {
  return toCsv([COLUMNS, ...rows.map((row) => {
    const { prediction, version, problem } = row;
    const result = row.state === "done" ? row.text : "";
    return [row.path, STATES[row.state].toLowerCase(), result, CLAIMS.has(row.kind) ? prediction.label : "", row.probability, row.threshold, row.area,
      problem?.message, problem?.detail, prediction?.domain?.status, prediction?.model.name ?? row.model.name, prediction?.model.version ?? row.model.version,
      prediction?.prevalence, row.model.repair, prediction?.warning ?? version?.warning, prediction?.image.sha256, prediction?.id, prediction?.time];
  })]);
}

/** Download the CSV file. */
export function saveCsv(rows) {
  save(new Blob([BOM, batchCsv(rows)], { type: "text/csv;charset=utf-8" }), `${fileName()}.csv`);
}

/** Download a zip file with the CSV file and what the server returned. */
export async function saveZip(rows) {
  const entries = [{ path: "README.txt", content: NOTE.replaceAll("\n", "\r\n") }, { path: "results.csv", content: BOM + batchCsv(rows) }];
  const taken = new Set();
  for (const { path, prediction } of rows.filter((row) => row.state === "done")) {
    const name = uniqueName(stem(safePath(path)), taken);
    entries.push({ path: `predictions/${name}.json`, content: JSON.stringify(prediction, null, 2) });
    if (prediction.mask) entries.push({ path: `masks/${name}.png`, content: new Uint8Array(await toPng(prediction.mask.data).arrayBuffer()) });
  }
  save(await zip(entries), `${fileName()}.zip`);
}

const fileName = () => `radserve-results-${new Date().toISOString().slice(0, 10)}`;

/** Return a path that stays in the folder it is unpacked to, on every operating system. */
const safePath = (path) => path.split(/[/\\]/).filter((part) => part !== "" && part !== ".")
  .map((part) => (/^\.+$/.test(part) ? "_" : part.replace(/[<>:"|?*\u0000-\u001f]/g, "_"))).join("/");

function uniqueName(name, taken) {
  let unique = name;
  for (let count = 2; taken.has(unique.toLowerCase()); count += 1) unique = `${name} (${count})`;
  taken.add(unique.toLowerCase());
  return unique;
}
