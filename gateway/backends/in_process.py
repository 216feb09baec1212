"""Backend that runs one model in this process, without TorchServe. The only module that loads torch and `handlers`.

It uses the service and the headers that TorchServe would use for the same archive, so the responses are the same.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from gateway.backends.base import MAX_RESPONSE, PICTURE_HEADERS, ModelRequest, ModelResponse, unknown_model
from gateway.errors import NotFoundError, SettingsError
from radserve.build import catalog, mar
from radserve.build.in_process import InProcessModel, Request
from radserve.errors import RadServeError
from radserve.schema.catalog import Catalog

_JSON: Final = "application/json"


class InProcessBackend:
    """Runs one archive (.mar) in its own thread, one request at a time; it must match the index of its folder."""

    def __init__(self, path: Path) -> None:
        try:
            self._model = InProcessModel(path, max_response=MAX_RESPONSE)
        except RadServeError as error:
            raise SettingsError(f"RADSERVE_GATEWAY_ARCHIVE: {error}") from error
        entry, path, service = self._model.entry, self._model.path, self._model.service
        version = catalog.version(entry, self._model.recipe, path, 100.0, service.policy.mode)
        self._catalog = Catalog.model_validate(catalog.catalog([(entry.name, version | {"ready": True})]))
        self._card = catalog.card(path)
        self._sample, _ = mar.sample(path, self._model.recipe)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    async def infer(self, request: ModelRequest) -> ModelResponse:
        """Run the model in its thread; concurrent requests wait."""
        if not self._is_served(request.model, request.version):
            return ModelResponse(404, _JSON, b"{}")  # without a title, like TorchServe
        if len(request.body) > self._model.service.limits.bytes:
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
        await asyncio.to_thread(self._model.close)

    def _is_served(self, name: str, version: str | None) -> bool:
        entry = self._model.entry
        return name == entry.name and version in (None, entry.version)

    def _require(self, name: str, version: str) -> None:
        if not self._is_served(name, version):
            raise unknown_model()

    def _run(self, request: ModelRequest) -> ModelResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        (response,) = self._model.respond(
            [Request(request.body, headers | {"explain": str(request.verb == "explanations")})]
        )
        passed = {name: value for name, value in response.headers.items() if name in PICTURE_HEADERS}
        return ModelResponse(response.status, response.media_type, response.body, headers=passed)
