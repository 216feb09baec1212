"""Backend that runs one model in this process, without TorchServe. The only module that loads torch and `handlers`.

It uses the service and the headers that TorchServe would use for the same archive, so the responses are the same.
"""

import asyncio
import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

from gateway.backends.base import MAX_RESPONSE, PICTURE_HEADERS, ModelRequest, ModelResponse, unknown_model
from gateway.errors import NotFoundError, SettingsError
from handlers import engine
from handlers.classification import Classification
from handlers.recipe import Recipe
from handlers.segmentation import Segmentation
from handlers.torchserve_handler import SAMPLE_PREDICTION, TorchServeHandler
from handlers.tracing import Tracer
from radserve.build import catalog, mar, model_store
from radserve.build.model_store import Entry
from radserve.errors import ArchiveError, RadServeError
from radserve.schema.catalog import Catalog

_MEMBERS: Final = ("archive.yaml", SAMPLE_PREDICTION)
_JSON: Final = "application/json"


@dataclass
class _Context:
    """Replaces TorchServe's `context` for one request."""

    headers: dict[str, str]
    status: int = 500
    media_type: str = ""
    response_headers: dict[str, str] = field(default_factory=dict)
    system_properties: dict[str, Any] = field(default_factory=dict)

    def get_all_request_header(self, _: int) -> dict[str, str]:
        return self.headers

    def set_response_status(self, code: int, phrase: str, idx: int) -> None:  # noqa: ARG002 - TorchServe's names
        self.status = code

    def set_response_content_type(self, _: int, value: str) -> None:
        self.media_type = value

    def set_response_header(self, _: int, key: str, value: str) -> None:
        self.response_headers[key] = value


class InProcessBackend:
    """Runs one archive (.mar) in its own thread, one request at a time; it must match the index of its folder."""

    def __init__(self, path: Path) -> None:
        path = path.resolve()  # the index lists files, not links to them
        try:
            self._entry, self._recipe = _verify(path)
            self._service = _load(path, self._recipe, self._entry.sha256)
        except RadServeError as error:
            raise SettingsError(f"RADSERVE_GATEWAY_ARCHIVE: {error}") from error
        version = catalog.version(self._entry, self._recipe, path, 100.0, self._service.policy.mode)
        self._catalog = Catalog.model_validate(catalog.catalog([(self._entry.name, version | {"ready": True})]))
        self._card = catalog.card(path)
        self._sample, _ = mar.sample(path, self._recipe)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    async def infer(self, request: ModelRequest) -> ModelResponse:
        """Run the model in its thread; concurrent requests wait."""
        if not self._is_served(request.model, request.version):
            return ModelResponse(404, _JSON, b"{}")  # without a title, like TorchServe
        if len(request.body) > self._service.limits.bytes:
            return ModelResponse(413, "", b"")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, request)

    async def catalog(self) -> Catalog:
        """Return a catalog with one version."""
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
        """Return None: the constructor ran the model on its sample."""
        return None

    async def close(self) -> None:
        """Stop the thread after the current request."""
        await asyncio.to_thread(partial(self._thread.shutdown, cancel_futures=True))
        await asyncio.to_thread(self._service.tracer.close)

    def _is_served(self, name: str, version: str | None) -> bool:
        return name == self._entry.name and version in (None, self._entry.version)

    def _require(self, name: str, version: str) -> None:
        if not self._is_served(name, version):
            raise unknown_model()

    def _run(self, request: ModelRequest) -> ModelResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        context = _Context(headers | {"explain": str(request.verb == "explanations")})
        (body,) = self._service.handle([{"body": request.body}], context)
        passed = {name: value for name, value in context.response_headers.items() if name in PICTURE_HEADERS}
        return ModelResponse(context.status, context.media_type, body, headers=passed)


def _verify(path: Path) -> tuple[Entry, Recipe]:
    """Check the archive against the index in its folder, or against its own manifest without an index."""
    if not path.is_file():
        raise ArchiveError(f"{path}: file not found.")
    listed = model_store.read(path.parent).archives
    entry = next((item for item in listed if item.file == path.name), None)
    if entry is None and listed:
        raise ArchiveError(f"{path}: missing in the index of its folder; take both from the same store.")
    entry = entry or _entry_from_manifest(path)
    return entry, mar.verify(entry, path.parent)


def _entry_from_manifest(path: Path) -> Entry:
    fields: dict[str, Any] = mar.manifest(path) | {"file": path.name, "inputs": ""}
    return Entry.model_construct(**fields, sha256=model_store.sha256(path), size=path.stat().st_size)


def _load(path: Path, recipe: Recipe, sha256: str) -> TorchServeHandler:
    """Load the archive and verify its sample prediction, like a worker of TorchServe."""
    with tempfile.TemporaryDirectory(prefix="radserve-archive-") as name, mar.opened(path) as archive:
        folder = Path(name)
        detector = () if recipe.detector is None else (recipe.detector.file,)
        for member in (*_MEMBERS, *engine.members(recipe), recipe.sample, *detector):
            archive.extract(member, folder)
        mar.require_same_code(archive, path)
        batch = int(yaml.safe_load(archive.read("model-config.yaml"))["batchSize"])
        service: TorchServeHandler = {"classification": Classification, "segmentation": Segmentation}[recipe.task]()
        service.load(folder, batch=batch)
        stored = json.loads((folder / SAMPLE_PREDICTION).read_bytes())
        for size in (1, batch):
            for prediction in service.predict_sample(folder, size):
                service.verify_sample(prediction, stored)
    service.model = replace(service.model, sha256=sha256)
    service.max_response = MAX_RESPONSE
    service.tracer = Tracer.create("radserve-worker")
    return service
