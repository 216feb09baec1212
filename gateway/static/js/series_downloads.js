// Files of the results of one examination: a table of its slices, and a document of everything.

import { toCsv } from "./csv.js";
import { volumeOf } from "./series_summary.js";
import { claimOf } from "./verdict.js";

const COLUMNS = ["slice", "file", "position_mm", "extent_mm", "status", "result", "label", "probability", "positive_label", "positive_probability", "area_pixels", "area_mm2", "cut_off",
  "reason", "detail", "image_check", "model", "version", "notes", "image_sha256", "result_id"];

/** Return a CSV table with a row for each slice. Uncertain and doubtful results have no label, probability or area. */
export function table(stack, outcomes, states) {
  return toCsv([COLUMNS, ...outcomes.map(({ prediction, problem, absence }, index) => {
    const { label, probability, positiveLabel, positiveProbability, area } = claimOf(prediction);
    const { model, image, domain, notes, id } = prediction ?? {};
    return [index + 1, stack.items[index].path, stack.places?.[index], stack.extent[index], prediction ? "done" : absence ?? "could not be analysed",
      states[index].text, label, probability, positiveLabel, positiveProbability, area?.pixels, area?.mm2, prediction?.threshold,
      problem?.message, problem?.detail, domain?.status, model?.name, model?.version, notes?.join(" "), image?.sha256, id];
  })]);
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
