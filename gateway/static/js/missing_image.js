// Note on stored results whose images are not kept: the files can be added again, and are recognised by their checksums.

import { analyse } from "./analyse.js";
import { expectImages } from "./claims.js";
import { announce, button, make } from "./dom.js";
import { toProblem } from "./rejections.js";

/** Offer to join the image with a checksum to the cards that lack it. */
export const missingImage = (sha256, cards) => note([sha256], false, `Drop the file again to see it with ${cards.length > 1 ? "these results" : "this result"}.`, async (files) => {
  await Promise.all(cards.map((card) => card.join(files.get(sha256))));
  return [];
});

/** Offer to join the images with some checksums to the card of a series that lacks them. */
export const missingImages = (checksums, card) => note(checksums, true, "Drop the same files again to open them in the viewer. They are not analysed again.", async (files) => {
  card.join(files);
  return card.missing;
});

/** Make the note; `show(files)` shows files by checksum, and returns a promise of the checksums that are still missing. */
function note(checksums, isSeries, advice, show) {
  const count = new Set(checksums).size;
  const isOne = count === 1;
  const status = make("p", { class: "small", role: "status" }, isOne ? "The file stays in this browser: only its checksum is compared." : "The files stay in this browser: only their checksums are compared.");
  const others = make("p", { class: "small", role: "status" });
  const input = make("input", { class: "visually-hidden", type: "file", id: "join-file", multiple: isSeries });
  const element = make("div", { class: "note join" },
    make("p", {}, make("strong", {}, isOne ? "The image was not kept." : `${count} images were not kept.`), " Ask the administrator of this server if it should keep images. ", advice),
    make("div", { class: "row" }, input, make("label", { class: "button", for: input.id }, isSeries ? "Choose the files" : "Choose the file")), status, others,
    make("details", {}, make("summary", {}, "For the administrator"), make("p", { class: "small" },
      "The setting ", make("code", {}, "RADSERVE_GATEWAY_IMAGES"), " names the folder in which the server keeps images, except those of a zip.")));
  const refuse = ({ reason, files, analyse: analyseThem }) => {
    const act = () => {
      stop();
      analyseThem();
    };
    others.replaceChildren(reason, " ", files.length ? button(`Analyse ${files.length === 1 ? files[0].name : `the ${files.length} files`}`, act, { class: "quiet" }) : "");
  };
  const join = async (files) => {
    const missing = new Set(await show(files));
    if (missing.size > 0) {
      const isFull = [...files.keys()].some((sum) => missing.has(sum));
      status.textContent = `Shown: ${count - missing.size}. Still missing: ${missing.size}.${isFull ? " This page cannot hold more images." : ""}`;
      return;
    }
    stop();
    if (others.hasChildNodes()) element.replaceChildren(others);
    else element.remove();
    announce(isOne ? "The image is shown with the result: its checksum is the same." : "The images are shown with the results: their checksums are the same.");
  };
  const settle = (matching, rejection) => {
    others.replaceChildren();
    if (rejection) refuse(rejection);
    if (matching.size) join(matching).catch((error) => { status.textContent = toProblem(error).message; });
  };
  const stop = expectImages(checksums, isSeries, settle);
  input.addEventListener("change", () => {
    analyse([...input.files]);
    input.value = "";
  });
  return element;
}
