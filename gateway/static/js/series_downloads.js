// Files of the results of one examination: a table of its slices, and a document of everything.

import { positiveLabel } from "./prediction.js";
import { volumeOf } from "./series_summary.js";

const COLUMNS = ["slice", "file", "position_mm", "extent_mm", "status", "label", "positive", "probability", "area_pixels", "area_mm2", "cut_off", "domain", "problem", "model", "version", "image_sha256"];

/** Quote a value for a table; a spreadsheet must not run a file name as a formula. */
function quoted(value) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Return a CSV table with a row for each slice. */
export function table(stack, outcomes) {
  const rows = outcomes.map(({ prediction, problem }, index) => {
    const label = prediction ? positiveLabel(prediction) : null;
    const { area, probabilities, probability, model, image, domain } = prediction ?? {};
    return [index + 1, stack.items[index].path, stack.places?.[index], stack.extent[index], prediction ? "analysed" : "rejected",
      prediction?.label, prediction?.positive, label ? probabilities[label] : probability, area?.pixels, area?.mm2, prediction?.threshold,
      domain?.status, problem ? [problem.message, problem.detail].filter(Boolean).join(" ") : null, model?.name, model?.version, image?.sha256];
  });
  return [COLUMNS, ...rows].map((row) => `${row.map(quoted).join(",")}\r\n`).join("");
}

/** Return everything about an examination as a document; see docs/gateway.md. */
export function document(stack, outcomes, declared) {
  const isMask = outcomes.some(({ prediction }) => prediction?.area);
  return {
    slices: outcomes.length,
    order: stack.order,
    distance_mm: stack.kind === "names" ? null : stack.distance,
    missing_after: stack.gaps.map(({ after, missing }) => ({ slice: after + 1, missing })),
    same_position: stack.duplicates.map((index) => index + 1),
    ...(isMask ? { volume: stack.kind === "names" ? { reason: "the files state no slice distance" } : volumeOf(stack, outcomes, declared) } : {}),
    predictions: outcomes.map(({ prediction, problem }, index) => ({
      slice: index + 1, file: stack.items[index].path, position_mm: stack.places?.[index] ?? null, extent_mm: stack.extent[index],
      ...(prediction ?? { status: problem.status, title: problem.title, detail: problem.detail || problem.message }),
    })),
  };
}
