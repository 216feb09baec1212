// From files to results: what is dropped, picked, photographed or pasted is asked about, each file by itself.

import { digest, judge, read } from "./answer.js";
import { Refusal, post } from "./api.js";
import { byId, say } from "./dom.js";
import { add } from "./files.js";
import { chosen, known } from "./models.js";
import { show } from "./refusals.js";
import { Result } from "./result.js";

const NO_MODEL = { title: "No model is chosen", detail: "Which ones are served is not known yet, or none is. Wait until one is shown, then try again." };

const results = [];
let waited = false;

/** Ask the chosen model about files. */
export function analyse(files) {
  if (byId("model").disabled) {
    for (const file of files) show(file.name, new Refusal(NO_MODEL), () => analyse([file]));
    return;
  }
  const asked = chosen();
  if (files.length === 0) return;
  if (location.hash === "#history") location.hash = "#analyse";
  waited = true;
  bring();
  for (const file of files) submit(file, asked);
}

/** Where the results stand below everything else, what is waited for comes into view by itself. */
function bring() {
  if (waited && matchMedia("(max-width: 900px)").matches) byId("work").scrollIntoView();
}

function submit(file, asked) {
  add(file, async (job) => {
    try {
      await check(file);
      const sha256 = await digest(file);
      const path = asked.version === null ? asked.name : `${asked.name}/${asked.version}`;
      const text = await post(`api/predictions/${path}`, file, { signal: job.signal, onProgress: (share) => job.progress(share) });
      const answer = read(text, { ...asked, sha256 });
      const version = await known(answer.model.name, answer.model.version);
      if (version !== null) judge(answer, version);
      place(new Result(file, answer, version));
    } catch (error) {
      if (error.name === "AbortError") return;
      show(file.name, error, () => submit(file, asked));
    }
    // Once the file has left the list of those in progress, which stands above.
    requestAnimationFrame(() => {
      bring();
      waited = false;
    });
  });
}

/** Refuse what is no single image before anything is sent. */
async function check(file) {
  let start;
  try {
    start = await file.slice(0, 4).text();
  } catch {
    throw new Refusal({ title: "Unreadable file", detail: "This browser cannot read it. Drop files, not folders." });
  }
  if (start === "PK\u0003\u0004") {
    throw new Refusal({ title: "Several images in one file", detail: "Unpack it and drop the images themselves: each is answered by itself." });
  }
}

function place(result) {
  results.push(result);
  byId("result-list").prepend(result.element);
  count();
  say(`${result.name}: ${result.said}.`);
}

function count() {
  byId("empty").hidden = results.length > 0;
  byId("clear").hidden = results.length === 0;
  byId("count").textContent = results.length > 1 ? `${results.length} files, the newest first` : "";
}

function clear() {
  for (const result of results.splice(0)) {
    result.close();
    result.element.remove();
  }
  count();
  byId("results-heading").focus();
}

/** Listen for files. */
export function install() {
  for (const id of ["pick", "camera"]) {
    byId(id).addEventListener("change", (event) => {
      analyse([...event.target.files]);
      event.target.value = ""; // the same file may be chosen again
    });
  }
  byId("clear").addEventListener("click", clear);
  const carries = (event) => event.dataTransfer?.types.includes("Files");
  const marked = (on) => document.body.classList.toggle("dropping", on);
  document.addEventListener("dragover", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    marked(true);
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) marked(false);
  });
  document.addEventListener("drop", (event) => {
    marked(false);
    if (!carries(event)) return;
    event.preventDefault();
    analyse([...event.dataTransfer.files]);
  });
  document.addEventListener("paste", (event) => analyse([...(event.clipboardData?.files ?? [])]));
}
