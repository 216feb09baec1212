"""The adapter between TorchServe and the pipeline; the one module that knows TorchServe's `context`."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Any, Final

import torch

from handlers import png, recipe, request_body
from handlers.content_negotiation import IMAGE
from handlers.errors import InternalError, NotFoundError, ProgramError, RequestError, ServiceUnavailableError
from handlers.metrics import Meter
from handlers.pipeline import Pipeline, Result
from handlers.program import DeviceLostError, Program
from handlers.request_body import Body, BodyLimits, Headers
from handlers.response import Answer, Model, Response, problem, refuse, render
from handlers.task import Task
from handlers.worker import INDEX, MAX_RESPONSE, busy, closing, quieten

logger = logging.getLogger(__name__)

_TORCHSERVE_MAX_RESPONSE: Final = 6_553_500
SAMPLE_ANSWER: Final = "sample.json"
"""The answer to the sample, stored when the archive is built."""
_FAREWELL: Final = 0.5
"""Seconds between the last answer of a worker whose device is lost and its exit."""


@dataclass(frozen=True)
class Request:
    """One request that could be read: its images, the Accept header, whether /explanations was asked."""

    body: Body
    accept: str
    explain: bool


class TorchServeHandler(Task):
    """What TorchServe loads: `initialize` once, then `handle` for each batch of requests."""

    def initialize(self, context: Any) -> None:
        """Load the archive, answer its sample and compare with the answer stored beside it.

        Raises
        ------
        RadServeError
            If the archive does not do what it says; TorchServe then does not call this worker ready.
        """
        quieten()
        folder = Path(context.system_properties["model_dir"])
        self.load(folder, _device(context), int(context.system_properties.get("batch_size") or 1))
        stored = json.loads((folder / SAMPLE_ANSWER).read_bytes())
        for size in (1, self.pipeline.batch):
            for found in self.answer_sample(folder, size):
                self.verify_sample(found, stored)
        self.meter.connect(getattr(context, "metrics", None))

    def load(self, folder: Path, device: str = "cpu", batch: int = 1) -> None:
        """Load an unpacked archive; a build does no more than this before it answers the sample.

        Raises
        ------
        RadServeError
            If the archive is broken.
        """
        self.recipe = recipe.load(folder / "archive.yaml")
        name, version = self.recipe.name, self.recipe.version
        self.model = Model(name, version, _sha256(name, version), self.recipe.warning)
        self.limits = BodyLimits()
        self.max_response = int(os.environ.get(MAX_RESPONSE, _TORCHSERVE_MAX_RESPONSE))
        self.lost = False
        program = Program(folder / "program.pt2", device)
        self.meter = Meter(self.recipe)
        self.pipeline = Pipeline(self.recipe, program, self.limits.image, batch, self.meter.time)

    def answer_sample(self, folder: Path, size: int = 1) -> list[dict[str, Any]]:
        """Answer the archive's sample `size` times in one batch; return the summaries.

        Raises
        ------
        ProgramError
            If the archive refuses it.
        """
        sample = (folder / self.recipe.sample).read_bytes()
        summaries: list[dict[str, Any]] = []
        for result in self.pipeline([sample] * size):
            if isinstance(result, RequestError):
                raise ProgramError(f"{self.recipe.name} refuses its own sample: {result}")
            if not summaries:
                self.rehearse(result)
            summaries.append(self.summary(self.describe(result).document))
        return summaries

    def handle(self, data: list[Mapping[str, Any]], context: Any) -> list[bytes]:
        """Answer one batch; one entry a request, in order, each with its own status."""
        with busy(), self.meter.time("handle"):
            self.meter.batch(len(data))
            with self.meter.time("read"):
                requests = [self._read(fields, _headers(context, index)) for index, fields in enumerate(data)]
            responses = self._answer(requests)
            for index, response in enumerate(responses):
                phrase = HTTPStatus(response.status).phrase
                context.set_response_status(code=response.status, phrase=phrase, idx=index)
                context.set_response_content_type(index, response.media_type)
                self.meter.request(response.status)
        if self.lost:
            self.meter.send()  # nothing is left to send it later
        else:
            self.meter.later()
        return [response.body for response in responses]

    def _read(self, fields: Mapping[str, Any], headers: Headers) -> Request | RequestError:
        request = self._try_read(fields, headers)
        if isinstance(request, RequestError):
            self.meter.refusal(request)
        return request

    def _try_read(self, fields: Mapping[str, Any], headers: Headers) -> Request | RequestError:
        try:
            if closing():
                raise ServiceUnavailableError("The server is stopping; connect anew to reach another one.")
            read = request_body.read(fields, headers, self.limits)
            return Request(read, headers.get("accept", ""), headers.get("explain") == "True")
        except RequestError as error:
            return error
        except Exception:  # a fault of ours: raised, TorchServe would answer the whole batch with 503
            logger.exception("reading a request failed")
            return InternalError("Reading this request failed by a fault of the server; it is logged.")

    def _answer(self, requests: list[Request | RequestError]) -> list[Response]:
        images = [image for item in requests if isinstance(item, Request) for image in item.body.images]
        try:
            if self.lost:
                raise DeviceLostError("The device was lost before.")
            results = self.pipeline.stream(images)
            return [
                refuse(item)
                if isinstance(item, RequestError)
                else self._respond(item, islice(results, len(item.body.images)))
                for item in requests
            ]
        except DeviceLostError:
            logger.exception("leaving the worker")
            self._leave()
            gone = ServiceUnavailableError("This worker lost its accelerator and is being replaced; try again.")
            return [refuse(item) if isinstance(item, RequestError) else self._refuse(gone) for item in requests]

    def _refuse(self, error: RequestError) -> Response:
        self.meter.refusal(error)
        return refuse(error)

    def _leave(self) -> None:
        """Exit once the answers are out: TorchServe starts a new worker with a new CUDA context."""
        if not self.lost:
            self.lost = True
            threading.Timer(_FAREWELL, os._exit, (1,)).start()

    def _respond(self, request: Request, results: Iterable[Result | RequestError]) -> Response:
        answers = [self._try_answer(request, result) for result in results]
        self.meter.images(len(answers))
        try:
            with self.meter.time("render"):
                response = render(self._whole(request, answers), request.accept)
            if len(response.body) > self.max_response:
                raise InternalError(
                    f"The answer has {len(response.body)} bytes, above this server's limit of {self.max_response}; "
                    "send fewer images in one request, or smaller ones."
                )
        except RequestError as error:
            return refuse(error) if error in answers else self._refuse(error)  # an image's is counted already
        except Exception:  # as in _read: the neighbours keep their answers
            logger.exception("rendering an answer failed")
            return self._refuse(_fault())
        for item in answers:
            if isinstance(item, Answer):
                self.meter.answer(item.document)
        return response

    def _try_answer(self, request: Request, result: Result | RequestError) -> Answer | RequestError:
        answer = result if isinstance(result, RequestError) else self._try_describe(request, result)
        if isinstance(answer, RequestError):
            self.meter.refusal(answer)
        return answer

    def _try_describe(self, request: Request, result: Result) -> Answer | RequestError:
        try:
            with self.meter.time("explain" if request.explain else "answer"):
                answer = self.explain(result) if request.explain else self.describe(result)
        except RequestError as error:
            return error
        except DeviceLostError:
            raise
        except Exception:  # as in _read
            logger.exception("describing an answer failed")
            return _fault()
        if request.body.several:
            # Of several images no picture is asked for, and what could draw them would keep all their pixels.
            return replace(answer, pictures={})
        image = result.prepared.image
        return replace(answer, pictures={**answer.pictures, IMAGE: lambda: png.png(png.plain(image))})

    def _whole(self, request: Request, answers: list[Answer | RequestError]) -> Answer:
        """Join the answers to the images of one request."""
        if not request.body.several:
            (answer,) = answers
            if isinstance(answer, RequestError):
                raise answer
            return answer
        for item in answers:
            if isinstance(item, NotFoundError):  # what the archive does not offer concerns no image, but the request
                raise item
        entries = [problem(item) if isinstance(item, RequestError) else item.document for item in answers]
        if request.body.names:
            entries = [{"name": name} | entry for name, entry in zip(request.body.names, entries, strict=True)]
        return Answer({"predictions": entries} | self.together(answers))


def _fault() -> InternalError:
    return InternalError("Rendering this answer failed by a fault of the server; it is logged.")


def _headers(context: Any, index: int) -> Headers:
    return Headers(context.get_all_request_header(index) or {})


def _device(context: Any) -> str:
    gpu = context.system_properties.get("gpu_id")
    return f"cuda:{gpu}" if gpu is not None and torch.cuda.is_available() else "cpu"


def _sha256(name: str, version: str) -> str | None:
    path = os.environ.get(INDEX)
    if path is None:
        return None
    for entry in json.loads(Path(path).read_bytes())["archives"]:
        if (entry["name"], entry["version"]) == (name, version):
            return str(entry["sha256"])
    raise ProgramError(f"{name} {version} is not listed in {path}; build it with 'radserve build {name}'.")
