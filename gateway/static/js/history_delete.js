// Deletion of stored results, after a confirmation.

import { get } from "./api.js";
import { counted } from "./format.js";
import { inParallel, patiently } from "./parallel.js";
import { forget } from "./recent_files.js";
import { show } from "./rejections.js";

/**
 * Delete results, if the user confirms it; `entries` have an `id` and an `image_sha256`. The `control` that was used shows
 * the progress. Shows what fails, and returns a sentence about what is deleted; empty if nothing is.
 */
export async function deleteResults(entries, control) {
  const isOne = entries.length === 1;
  if (!confirm(isOne ? "Delete this result? This can't be undone." : `Delete all ${entries.length} results that were sent together? This can't be undone.`)) return "";
  const text = control.textContent;
  let done = 0;
  const showProgress = () => { control.textContent = isOne ? "Deleting …" : `Deleting ${done} of ${entries.length} …`; };
  control.disabled = true;
  showProgress();
  const errors = (await inParallel(entries, async (entry) => {
    const error = await patiently(() => deleteResult(entry)).then(() => null, (reason) => reason);
    done += 1;
    showProgress();
    return error;
  })).filter(Boolean);
  control.disabled = false;
  control.textContent = text;
  if (document.activeElement === document.body) control.focus(); // which it lost while it was disabled
  if (errors.length) show(isOne ? "Deletion" : `${counted(errors.length, "result")} of ${entries.length} could not be deleted`, errors[0]).scrollIntoView({ block: "nearest" });
  if (errors.length === entries.length) return "";
  return isOne ? "Result deleted." : `${counted(entries.length - errors.length, "result")} deleted.`;
}

async function deleteResult({ id, image_sha256: sha256 }) {
  await get(`api/results/${id}`, "application/json", "DELETE").catch((error) => {
    if (error.status !== 404) throw error; // already deleted
  });
  forget(sha256);
}
