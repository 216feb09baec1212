"""Predictions as events: the result of each image when it is ready (docs/gateway.md)."""

import asyncio
import logging
from dataclasses import dataclass, field, replace
from typing import Any, Final

import anyio
from fastapi import Request

from gateway import model_response, problems, services
from gateway.access import Caller
from gateway.api import inference
from gateway.api.inference import Target
from gateway.errors import ProblemError, UnavailableError, UnsupportedMediaTypeError
from gateway.event_stream import Emit, EventStream
from gateway.model_response import Document
from gateway.uploads import single_images
from gateway.uploads.request_body import RequestBody
from gateway.uploads.single_images import SingleImage
from radserve.schema.catalog import Catalog

logger = logging.getLogger(__name__)

_PARALLEL: Final = 4
"""Images of a request that are analysed at the same time."""
_BUSY: Final = (429, 503)
_ATTEMPTS: Final = 4
_MAX_PAUSE: Final = 60.0
"""Longest Retry-After in seconds to wait for, and how often an image is sent to a busy server."""
_IMAGE_STATUSES: Final = (413, 415, 422)
"""Statuses that concern one image, like those of a rejection within a list."""
_SEVERAL_FRAMES: Final = "The image has several frames, but an event is about one image; request application/json."
_REQUEST_STATUSES: Final = (400, 404)
"""Statuses that every image of the request would get."""


async def respond(request: Request, target: Target, body: RequestBody, caller: Caller) -> EventStream:
    """Return the stream of a request; raises a ProblemError if the whole request cannot be processed."""
    inference.check(request, target, body)
    catalog = await services.of(request).backend.catalog()
    images = await asyncio.to_thread(single_images.split, body)
    if images is None or not _is_listed(target, catalog):
        await inference.send(request, target, body)  # raises the error of the server
    if images is None:
        raise ProblemError("The gateway cannot split this request into images; request application/json.")
    # The server chooses the same version for all images, unless it changes its default version.
    return EventStream(_Batch(request, replace(target, client=request.state.request_id), images, caller).produce)


def _is_listed(target: Target, catalog: Catalog) -> bool:
    return any(
        model.name == target.model and target.version in (None, *(item.version for item in model.versions))
        for model in catalog.models
    )


@dataclass
class _Batch:
    """Images of one request, and how many have a result.

    `target` names the version of the first result from then on.
    """

    request: Request
    target: Target
    images: list[SingleImage]
    caller: Caller
    predictions: int = 0
    rejections: int = 0
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_PARALLEL))
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    is_accepted: bool = False

    async def produce(self, stream: EventStream, emit: Emit) -> None:
        """Emit all events of the request; raises its ProblemError if nothing was sent yet."""
        total = len(self.images)
        try:
            async with anyio.create_task_group() as tasks:
                for index in range(total):
                    tasks.start_soon(self._analyse, index, emit)
        except ExceptionGroup as group:  # the other images were cancelled
            error, *_ = [self._problem(error) for error in group.exceptions]
            if error.status in _REQUEST_STATUSES and not stream.is_started:
                raise error from None
            await self._accept(emit)
            self.request.state.stream_status = error.status
            await emit("error", problems.details(self.request, error))
        else:
            await emit("done", {"total": total, "predictions": self.predictions, "rejections": self.rejections})

    async def _accept(self, emit: Emit) -> None:
        """Emit the first event, once an image shows that the server accepts the request."""
        if not self.is_accepted:
            self.is_accepted = True
            await emit("accepted", {"total": len(self.images), "request_id": self.request.state.request_id})

    def _problem(self, error: Exception) -> ProblemError:
        """Return an error to show; any bug is logged with its traceback, and rendered without."""
        if isinstance(error, ProblemError):
            return error
        request_id = self.request.state.request_id
        logger.error("request %s failed", request_id, exc_info=error)
        return ProblemError(f"The gateway failed; its log has the details of request {request_id}.")

    async def _analyse(self, index: int, emit: Emit) -> None:
        async with self.slots:
            item, history = await self._result(index)
            async with self.writing:  # within the slot: a client that reads slowly delays the other images
                await self._emit(index, item, history, emit)

    async def _emit(self, index: int, item: Document, history: str | None, emit: Emit) -> None:
        await self._accept(emit)
        is_prediction = model_response.is_prediction(item)
        self.predictions += is_prediction
        self.rejections += not is_prediction
        name = item.get("filename") or self.images[index].name
        data = {"index": index, "name": name, "result": item} | ({"history": history} if is_prediction else {})
        await emit("prediction" if is_prediction else "rejection", data)
        await emit("progress", {"done": self.predictions + self.rejections, "total": len(self.images)})

    async def _result(self, index: int) -> tuple[Document, str | None]:
        """Return the item that a list of results has for an image, and whether the history has it."""
        try:
            body = await asyncio.to_thread(self.images[index].build)
        except ProblemError as error:  # of a member of a zip
            return {"name": self.images[index].name} | self._rejection(index, error), None
        try:
            document = await self._run(body)
        except ProblemError as error:
            if error.status not in _IMAGE_STATUSES:
                raise
            return self._rejection(index, error), None
        item, *others = model_response.predictions(document)
        if others:
            return self._rejection(index, UnsupportedMediaTypeError(_SEVERAL_FRAMES)), None
        if model_response.is_prediction(item):
            self._require_version(item["model"]["version"])
        if not model_response.is_prediction(item):  # it is the first image of its request only here
            item = item | {"detail": item["detail"].replace("instances[0]", f"instances[{index}]")}
        return item, document["history"]

    def _require_version(self, version: str) -> None:
        """Raise UnavailableError if another image of the request was analysed by another version."""
        if self.target.version is None:
            self.target = replace(self.target, version=version)
        elif self.target.version != version:
            raise UnavailableError(
                "The default version of the model changed during this request; send the images without a result again."
            )

    async def _run(self, body: RequestBody) -> Document:
        """Send an image, again after a pause if the server is busy."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                document = await inference.run(self.request, self.target, body, self.caller)
            except ProblemError as error:
                pause = _pause(error, attempt)
                if error.status not in _BUSY or attempt == _ATTEMPTS or pause > _MAX_PAUSE:
                    raise
                await asyncio.sleep(pause)
            else:
                assert isinstance(document, dict)
                return document
        raise AssertionError

    def _rejection(self, index: int, error: ProblemError) -> dict[str, Any]:
        name = self.images[index].name
        details = {"status": error.status, "title": error.title, "detail": str(error)}
        return details | ({"filename": name} if name else {})


def _pause(error: ProblemError, attempt: int) -> float:
    stated = error.headers.get("Retry-After", "")
    return float(stated) if stated.isdecimal() else 0.25 * 2**attempt
