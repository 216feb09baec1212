"""Valid and faulty versions of the chest model's archive, and clients that send requests continuously."""

import json
import shutil
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import yaml

from radserve.build import model_store
from radserve.build.mar import MANIFEST
from radserve.build.model_store import Entry
from tests.repack import FILM, NAME, entry_of

Contents = dict[str, bytes]

PATH = f"/predictions/{NAME}"


def copied(store: Path, folder: Path) -> Path:
    """Copy the chest model to a new model store."""
    folder.mkdir()
    entry = entry_of(store)
    shutil.copyfile(store / entry.file, folder / entry.file)
    model_store.write(folder, model_store.Index(archives=(entry,)))
    return folder


def add(store: Path, version: str, change: Callable[[Contents], None] = lambda _: None) -> Entry:
    """Add another version of the chest model to a model store."""
    old = entry_of(store) if version == "1.0.0" else model_store.read(store).find(NAME, "1.0.0")
    assert old is not None
    with zipfile.ZipFile(store / old.file) as packed:
        contents = {name: packed.read(name) for name in packed.namelist()}
    manifest = json.loads(contents[MANIFEST])
    manifest["model"]["modelVersion"] = version
    contents[MANIFEST] = json.dumps(manifest).encode()
    contents["archive.yaml"] = yaml.safe_dump(yaml.safe_load(contents["archive.yaml"]) | {"version": version}).encode()
    change(contents)
    path = store / f"{NAME}-{version}.mar"
    with zipfile.ZipFile(path, "w") as packed:
        for name, data in contents.items():
            packed.writestr(name, data)
    update = {"version": version, "file": path.name, "sha256": model_store.sha256(path), "size": path.stat().st_size}
    entry = old.model_copy(update=update)
    model_store.write(store, model_store.read(store).put(entry))
    return entry


def wrong(contents: Contents) -> None:
    """Store another prediction for the sample than the model makes."""
    stored = json.loads(contents["sample.json"])
    first, second = stored["probabilities"]
    shares = stored["probabilities"]
    contents["sample.json"] = json.dumps(
        stored | {"label": first, "probabilities": {first: shares[second], second: shares[first]}}
    ).encode()


def inserted(before: str, line: str) -> Callable[[Contents], None]:
    """Insert a line of code into the handler, before another one."""

    def change(contents: Contents) -> None:
        code = contents["handlers/torchserve_handler.py"].decode()
        assert code.count(before) == 1
        indent = " " * (len(before) - len(before.lstrip()))
        contents["handlers/torchserve_handler.py"] = code.replace(before, f"{indent}{line}\n{before}").encode()

    return change


dying = inserted('        log_to_torchserve(getattr(context, "manifest", None) or {})\n', "os._exit(7)")
"""Its worker ends when it starts."""
slow = inserted("            self.meter.batch.observe(len(data))\n", "time.sleep(0.6)")
"""It responds a quarter of a second later."""
raising = inserted(
    "        prediction = self.explain(result) if request.explain else self.predict(result)\n",
    "self.calls = getattr(self, 'calls', 0) + 1; 1 / (self.calls % 10)",
)
"""It raises an exception on every tenth request."""
shifted = inserted(
    "        return with_outcome(response, predictions)\n",
    "[item.document.update(label='normal') for item in predictions]",
)
"""It counts every image as normal, and responds as the stable version."""


@dataclass
class Load:
    """The responses that the clients received.

    Attributes
    ----------
    answers
        Start time of each request (`time.monotonic`), and the version that answered it.
    versions
        Number of responses by version.
    failures
        Responses other than 200.
    """

    answers: list[tuple[float, str]] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def since(self, begin: float) -> set[str]:
        """Return the versions that answered requests sent after a time; earlier ones may have been queued."""
        return {version for begun, version in self.answers if begun >= begin}


@contextmanager
def asking(url: str, headers: dict[str, str], clients: int = 4, pause: float = 0.25) -> Iterator[Load]:
    """Run clients that send one request after the other over a kept-alive connection, without retries.

    The pause between two requests leaves processor time to starting workers.
    """
    load, lock, stop = Load(), threading.Lock(), threading.Event()

    def send() -> None:
        with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
            while not stop.is_set():
                begin = time.monotonic()
                try:
                    response = client.post(PATH, content=FILM)
                    version = response.json()["model"]["version"] if response.status_code == 200 else ""
                    failure = "" if version else f"{response.status_code} {response.text}"
                except httpx.HTTPError as error:
                    version, failure = "", repr(error)
                time.sleep(pause)
                with lock:
                    if version:
                        load.versions[version] += 1
                        load.answers.append((begin, version))
                    else:
                        load.failures.append(failure)

    threads = [threading.Thread(target=send) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        stop.set()
        for thread in threads:
            thread.join()
