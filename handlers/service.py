"""The adapter between TorchServe and the pipeline; the one module that knows TorchServe's `context`."""

from __future__ import annotations

import json
import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import torch

from handlers import body, recipe
from handlers.answer import Model, Response, negotiate, problem, refuse, render
from handlers.body import Body, BodyLimits, Headers
from handlers.errors import InternalError, NotFound, ProgramError, RequestError, ServiceUnavailable
from handlers.pipeline import Pipeline, Result
from handlers.program import DeviceLost, Program
from handlers.worker import INDEX, MAX_RESPONSE, busy, closing, quieten

logger = logging.getLogger(__name__)

_TORCHSERVE_MAX_RESPONSE: Final = 6_553_500
SAMPLE_ANSWER: Final = "sample.json"
"""The answer to the sample, stored when the archive is built."""
_FAREWELL: Final = 0.5
"""Seconds between the last answer of a worker whose device is lost and its exit."""
TOLERANCE: Final = 0.01
"""How far the warm-up's probability may lie from the one stored when the archive was built:
devices differ in the last digits, other weights or another pipeline in the first."""


class Service(ABC):
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
        self.recipe = recipe.load(folder / "archive.yaml")
        self.model = Model(self.recipe.name, self.recipe.version, _sha256(self.recipe.name, self.recipe.version))
        self.limits = BodyLimits()
        self.max_response = int(os.environ.get(MAX_RESPONSE, _TORCHSERVE_MAX_RESPONSE))
        self.lost = False
        program = Program(folder / "program.pt2", _device(context))
        batch = int(context.system_properties.get("batch_size") or 1)
        self.pipeline = Pipeline(self.recipe, program, self.limits.image, batch)
        self._warm_up(folder)

    def _warm_up(self, folder: Path) -> None:
        sample = (folder / self.recipe.sample).read_bytes()
        stored = json.loads((folder / SAMPLE_ANSWER).read_bytes())
        for size in (1, self.pipeline.batch):
            for result in self.pipeline([sample] * size):
                if isinstance(result, RequestError):
                    raise ProgramError(f"{self.recipe.name} refuses its own sample: {result}")
                self.verify_sample(self.describe(result), stored)

    @abstractmethod
    def describe(self, result: Result) -> dict[str, Any]:
        """Turn the outputs for one image into its answer.

        Raises
        ------
        RequestError
            If they mean nothing.
        """

    @abstractmethod
    def verify_sample(self, answer: dict[str, Any], stored: dict[str, Any]) -> None:
        """Compare the answer to the sample with the stored one.

        Raises
        ------
        ProgramError
            If they differ.
        """

    def handle(self, data: list[Mapping[str, Any]], context: Any) -> list[bytes]:
        """Answer one batch; one entry a request, in order, each with its own status."""
        with busy():
            bodies = [self._read(fields, _headers(context, index)) for index, fields in enumerate(data)]
            responses = self._answer(bodies)
            for index, response in enumerate(responses):
                phrase = HTTPStatus(response.status).phrase
                context.set_response_status(code=response.status, phrase=phrase, idx=index)
                context.set_response_content_type(index, response.media_type)
            return [response.body for response in responses]

    def _read(self, fields: Mapping[str, Any], headers: Headers) -> Body | RequestError:
        try:
            if closing():
                raise ServiceUnavailable("The server is stopping; connect anew to reach another one.")
            if headers.get("explain") == "True":
                raise NotFound(f"{self.recipe.name} {self.recipe.version} gives no explanations; use /predictions.")
            negotiate(headers.get("accept", ""))
            return body.read(fields, headers, self.limits)
        except RequestError as error:
            return error
        except Exception:  # a fault of ours: raised, TorchServe would answer the whole batch with 503
            logger.exception("reading a request failed")
            return InternalError("Reading this request failed by a fault of the server; it is logged.")

    def _answer(self, bodies: list[Body | RequestError]) -> list[Response]:
        images = [image for item in bodies if isinstance(item, Body) for image in item.images]
        try:
            if self.lost:
                raise DeviceLost("The device was lost before.")
            results = iter(self.pipeline(images))
        except DeviceLost:
            logger.exception("leaving the worker")
            self._leave()
            gone = ServiceUnavailable("This worker lost its accelerator and is being replaced; try again.")
            return [refuse(item if isinstance(item, RequestError) else gone) for item in bodies]
        return [
            refuse(item) if isinstance(item, RequestError) else self._render(item, [next(results) for _ in item.images])
            for item in bodies
        ]

    def _leave(self) -> None:
        """Exit once the answers are out: TorchServe starts a new worker with a new CUDA context."""
        if not self.lost:
            self.lost = True
            threading.Timer(_FAREWELL, os._exit, (1,)).start()

    def _render(self, item: Body, results: list[Result | RequestError]) -> Response:
        try:
            if item.several:
                response = render({"predictions": [self._try_describe(result) for result in results]})
            else:
                (result,) = results
                if isinstance(result, RequestError):
                    raise result
                response = render(self.describe(result))
            if len(response.body) > self.max_response:
                raise InternalError(
                    f"The answer has {len(response.body)} bytes, above this server's limit of {self.max_response}; "
                    "send fewer images in one request."
                )
        except RequestError as error:
            return refuse(error)
        except Exception:  # as in _read: the neighbours keep their answers
            logger.exception("rendering an answer failed")
            return refuse(InternalError("Rendering this answer failed by a fault of the server; it is logged."))
        return response

    def _try_describe(self, result: Result | RequestError) -> dict[str, Any]:
        if isinstance(result, RequestError):
            return problem(result)
        try:
            return self.describe(result)
        except RequestError as error:
            return problem(error)


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
