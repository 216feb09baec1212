// Note on stored results whose image is not kept: the file can be added again, and is recognised by its checksum.

import { analyse } from "./analyse.js";
import { expectImage } from "./claims.js";
import { announce, button, make } from "./dom.js";
import { toProblem } from "./rejections.js";

/** Offer to join the image with a checksum to the cards that lack it. */
export function missingImage(sha256, cards) {
  const status = make("p", { class: "small", role: "status" }, "The file stays in this browser: only its checksum is compared.");
  const input = make("input", { class: "visually-hidden", type: "file", id: "join-file" });
  const note = make("div", { class: "note join" },
    make("p", {}, make("strong", {}, "The image was not kept."), " Ask the administrator of this server if it should keep images. "
      + `Drop the file again to see it with ${cards.length > 1 ? "these results" : "this result"}.`),
    make("div", { class: "row" }, input, make("label", { class: "button", for: input.id }, "Choose the file")), status,
    make("details", {}, make("summary", {}, "For the administrator"), make("p", { class: "small" },
      "The setting ", make("code", {}, "RADSERVE_GATEWAY_IMAGES"), " names the folder in which the server keeps images, except those of a zip.")));
  const refuse = (reason, file, otherwise) => {
    const analyseIt = () => {
      stop();
      otherwise();
    };
    status.replaceChildren(reason, " ", otherwise ? button(`Analyse ${file.name}`, analyseIt, { class: "quiet" }) : "");
  };
  const join = async (file) => {
    try {
      await Promise.all(cards.map((card) => card.join(file)));
      stop();
      note.remove();
      announce("The image is shown with the result: its checksum is the same.");
    } catch (error) {
      refuse(toProblem(error).message, file, null);
    }
  };
  const stop = expectImage(sha256, join, refuse);
  input.addEventListener("change", () => {
    analyse([...input.files]);
    input.value = "";
  });
  return note;
}
