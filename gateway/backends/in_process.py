"""A model in this process, without any TorchServe: the one module of the gateway that loads torch and `handlers`.

It answers as TorchServe would with the same archive: by the same service, asked with the same headers.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

import handlers
from gateway.backends.base import Catalog, Question, Reply
from gateway.errors import NotFoundError, SettingsError
from handlers.classification import Classification
from handlers.recipe import Recipe
from handlers.segmentation import Segmentation
from handlers.torchserve_handler import SAMPLE_PREDICTION, TorchServeHandler
from radserve.build import mar, model_store
from radserve.build.model_store import Entry
from radserve.errors import ArchiveError, RadServeError
from radserve.server import catalog

_MAX_RESPONSE: Final = 32 * 1024 * 1024
"""As max_response_size in config.properties."""
_NEEDED: Final = ("archive.yaml", "program.pt2", SAMPLE_PREDICTION)
_JSON: Final = "application/json"


@dataclass
class _Context:
    """What TorchServe's `context` is to a service, for one request."""

    headers: dict[str, str]
    status: int = 500
    media_type: str = ""
    system_properties: dict[str, Any] = field(default_factory=dict)

    def get_all_request_header(self, _: int) -> dict[str, str]:
        return self.headers

    def set_response_status(self, code: int, phrase: str, idx: int) -> None:  # noqa: ARG002 - TorchServe's words
        self.status = code

    def set_response_content_type(self, _: int, value: str) -> None:
        self.media_type = value


class InProcess:
    """Answers with one archive, one request after the other, in a thread of its own.

    Parameters
    ----------
    path
        A .mar. Where the index of its store lies beside it, it must be what that says.

    Raises
    ------
    SettingsError
        If the archive cannot be used.
    """

    def __init__(self, path: Path) -> None:
        path = path.resolve()  # the index knows files, not the links to them
        try:
            self._entry, self._recipe = _verified(path)
            self._service = _loaded(path, self._recipe, self._entry.sha256)
        except RadServeError as error:
            raise SettingsError(f"RADSERVE_GATEWAY_ARCHIVE: {error}") from error
        described = catalog.version(self._entry, self._recipe, path, share=100.0)
        self._catalog = Catalog.model_validate(catalog.catalog([(self._entry.name, described)]))
        self._card = catalog.card(path)
        self._sample, _ = mar.sample(path, self._recipe)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    async def ask(self, question: Question) -> Reply:
        """Ask the model; requests that come meanwhile wait, and the event loop goes on."""
        if not self._is_served(question.model, question.version):
            return Reply(404, _JSON, b"{}")  # as TorchServe, which says it without a title
        if len(question.body) > self._service.limits.bytes:
            return Reply(413, "", b"")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, question)

    async def catalog(self) -> Catalog:
        """Return the one version."""
        return self._catalog

    async def card(self, name: str, version: str) -> str:
        """Return the archive's card."""
        self._require(name, version)
        if self._card is None:
            raise NotFoundError(f"{name} {version} has no card.")
        return self._card.decode()

    async def sample(self, name: str, version: str) -> bytes:
        """Return the archive's sample."""
        self._require(name, version)
        return self._sample

    async def ready(self) -> str | None:
        """Return None: the model answered its sample before this could be asked."""
        return None

    async def close(self) -> None:
        """End the thread, once it has answered."""
        await asyncio.to_thread(partial(self._thread.shutdown, cancel_futures=True))

    def _is_served(self, name: str, version: str | None) -> bool:
        return name == self._entry.name and version in (None, self._entry.version)

    def _require(self, name: str, version: str) -> None:
        if not self._is_served(name, version):
            raise NotFoundError("This gateway does not serve this model or version; /api/models lists what it serves.")

    def _answer(self, question: Question) -> Reply:
        named = {
            "content-type": question.media_type,
            "content-encoding": question.encoding,
            "accept": question.accept,
            "explain": str(question.verb == "explanations"),
        }
        context = _Context({name: value for name, value in named.items() if value})
        (body,) = self._service.handle([{"body": question.body}], context)
        return Reply(context.status, context.media_type, body)


def _verified(path: Path) -> tuple[Entry, Recipe]:
    """Check the archive against the index beside it; where there is none, against itself."""
    if not path.is_file():
        raise ArchiveError(f"{path}: there is no such archive.")
    listed = model_store.read(path.parent).archives
    entry = next((item for item in listed if item.file == path.name), None)
    if entry is None and listed:
        raise ArchiveError(f"{path}: the index beside it does not list it; take both from the same store.")
    entry = entry or _own_words(path)
    return entry, mar.verify(entry, path.parent)


def _own_words(path: Path) -> Entry:
    try:
        with zipfile.ZipFile(path) as packed:
            model = json.loads(packed.read(mar.MANIFEST))["model"]
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ArchiveError(f"{path}: is no archive ({error}).") from error
    words = {"name": model["modelName"], "version": model["modelVersion"], "file": path.name, "inputs": ""}
    return Entry.model_construct(**words, sha256=model_store.sha256(path), size=path.stat().st_size)


def _loaded(path: Path, recipe: Recipe, sha256: str) -> TorchServeHandler:
    """Load the archive and let it answer its sample, as a worker of TorchServe does."""
    with tempfile.TemporaryDirectory(prefix="radserve-archive-") as name, zipfile.ZipFile(path) as packed:
        folder = Path(name)
        for member in (*_NEEDED, recipe.sample):
            packed.extract(member, folder)
        _require_same_code(packed, path)
        batch = int(yaml.safe_load(packed.read("model-config.yaml"))["batchSize"])
        service: TorchServeHandler = {"classification": Classification, "segmentation": Segmentation}[recipe.task]()
        service.load(folder, batch=batch)
        stored = json.loads((folder / SAMPLE_PREDICTION).read_bytes())
        for size in (1, batch):
            for found in service.predict_sample(folder, size):
                service.verify_sample(found, stored)
    service.model = replace(service.model, sha256=sha256)
    service.max_response = _MAX_RESPONSE
    return service


def _require_same_code(packed: zipfile.ZipFile, path: Path) -> None:
    """Refuse an archive of another release: TorchServe would answer with its code, and here is only our own."""
    home = Path(handlers.__file__).parent
    for name in packed.namelist():
        if not (name.startswith("handlers/") and name.endswith(".py")):
            continue
        ours = home / name.removeprefix("handlers/")
        if not ours.is_file() or ours.read_bytes() != packed.read(name):
            raise ArchiveError(
                f"{path}: was built with another {name} than is installed here, so it could answer differently. "
                "Build it again with this release: radserve build."
            )
