// Results as DICOM objects (SR, SEG, SC), which the gateway makes from the file that is sent again.

import { invalidResponse, post } from "./api.js";
import { isDicom, readHeader } from "./dicom_header.js";
import { announce, button, make, save } from "./dom.js";
import { show } from "./rejections.js";
import { zip } from "./zip_writer.js";

const ACCEPT = 'multipart/related; type="application/dicom"';
const KINDS = { SR: "sr", SEG: "seg" }; // by modality; a picture has another one
const NOTE = "DICOM takes a new analysis, which is added to the history.";

/**
 * Return a button, and a note, that downloads the objects of a result, several in a zip file; `name` begins their names, `title` is for people.
 * Those of frames have no picture.
 * `path` names model and version, `body()` returns a promise of the `file`, or of the `instances` of a series. The note says
 * which objects there were, because a result may lack some.
 */
export function dicomButton(name, title, path, options, body, hasPicture = true) {
  const text = `DICOM (SR, SEG${hasPicture ? ", SC" : ""})`;
  const note = make("span", { class: "small" }, NOTE);
  const act = button(text, async () => {
    act.disabled = true;
    act.textContent = "Making DICOM …";
    try {
      const { file = null, instances = null } = await body();
      const kinds = await saveObjects(await post(`api/predictions/${path}`, file, { ...options, instances, accept: ACCEPT }), name);
      note.textContent = downloadedText(kinds, hasPicture && instances !== null);
      announce(`${title}: DICOM result downloaded.`);
    } catch (error) {
      show(`${title}, DICOM result`, error);
    }
    act.disabled = false;
    act.textContent = text;
  }, { title: NOTE });
  return [act, note];
}

/** Say which objects were downloaded, and what a picture of a series shows. */
function downloadedText(kinds, isSeries) {
  const picture = isSeries ? kinds.includes("sc") ? " SC is a picture of the slice with the largest mask." : " There is no SC: nothing is marked, or the server cannot draw that slice alone." : "";
  return `Downloaded: ${kinds.map((kind) => kind.toUpperCase()).join(", ")}.${picture}`;
}

/** Save the objects of a response; return their kinds. */
async function saveObjects(response, name) {
  const entries = objectsOf(await response.arrayBuffer()).map((content) => {
    const kind = KINDS[readHeader(content.buffer)?.modality] ?? "sc";
    return { kind, path: `${name.replaceAll(/[/\\]/g, "_")}.${kind}.dcm`, content };
  });
  if (entries.length === 1) save(new Blob([entries[0].content], { type: "application/dicom" }), entries[0].path);
  else save(await zip(entries), `${name}.dicom.zip`);
  return entries.map(({ kind }) => kind);
}

/** Return the DICOM files of a multipart body (RFC 2046, section 5.1), as bytes. */
export function objectsOf(buffer) {
  const text = new TextDecoder("latin1").decode(buffer); // one character for each byte
  const boundary = /^--[^\r\n]+/.exec(text)?.[0];
  const objects = [];
  for (let start = 0, end; boundary; start = end + 2) {
    end = text.indexOf(`\r\n${boundary}`, start);
    if (end < 0) break;
    objects.push(new Uint8Array(buffer.slice(text.indexOf("\r\n\r\n", start) + 4, end)));
  }
  if (objects.length === 0 || !objects.every((bytes) => isDicom(bytes.buffer))) throw invalidResponse("it holds no DICOM objects");
  return objects;
}
