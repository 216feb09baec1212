"""Adapts TorchServe to the pipeline; the only module that uses TorchServe's `context`."""

import hashlib
import json
import logging
import os
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final

import torch

from handlers import distribution, engine, png, profile, recipe, request_body
from handlers.content_negotiation import IMAGE
from handlers.dicom.multi_frame import Frame
from handlers.domain import assessment, detector
from handlers.domain.assessment import Mode
from handlers.domain.policy import Policy, settle
from handlers.errors import (
    DeviceLostError,
    InternalError,
    NotFoundError,
    OverdueError,
    ProgramError,
    RequestError,
    ServiceUnavailableError,
)
from handlers.metrics import Meter
from handlers.pipeline import EncodedImage, Pipeline, Result, attempt, without_messages
from handlers.repair import Repair
from handlers.request_body import BodyLimits, RequestBody
from handlers.response import Model, Prediction, Response, problem_details, render, render_error, with_outcome
from handlers.scope import requirements
from handlers.scope.scope import Assurances
from handlers.tracing import Trace, Tracer, stage
from handlers.worker import (
    DOMAIN,
    INDEX,
    MAX_RESPONSE,
    REQUIRE,
    busy_lock,
    is_stopping,
    log_to_torchserve,
    release_free_memory,
)

logger = logging.getLogger(__name__)

_TORCHSERVE_MAX_RESPONSE: Final = 6_553_500
SAMPLE_PREDICTION: Final = "sample.json"
"""File with the summary of the sample's prediction, written when the archive is built."""
TOLERANCE: Final = 0.01
"""Largest difference between a number of the sample's prediction and the stored one: devices differ in the last
digits, other weights or another pipeline in the first."""
_DEFAULT_TIMEOUT: Final = 60
"""Seconds of `responseTimeout` where the archive names none: TorchServe then kills a worker that has not answered."""
_TIME_SHARE: Final = 0.5
"""Part of `responseTimeout` after which a batch starts no further image. The rest is for the images in work, and for a
processor that others use."""
_EXIT_DELAY: Final = 0.5
"""Seconds that the last responses of a worker with a lost device get to leave before it exits."""


@dataclass(frozen=True)
class Request:
    """A readable request: its images, the Accept header, whether it asks for an explanation, its times."""

    id: str
    body: RequestBody
    accept: str
    explain: bool
    trace: Trace


class TorchServeHandler(ABC):
    """Entry point for TorchServe: `initialize` once, then `handle` for each batch of requests.

    A subclass defines one task, such as classification: how the network's outputs become predictions.
    """

    measures_volumes: ClassVar[bool] = False  # whether several images may be one series with a volume
    tracer: Tracer = Tracer()  # sends nothing; `initialize` creates the worker's

    @abstractmethod
    def predict(self, result: Result) -> Prediction:
        """Turn the outputs for one image into its prediction; `RequestError` if they are invalid."""

    @abstractmethod
    def explain(self, result: Result) -> Prediction:
        """Turn the outputs for one image into its prediction with an explanation, if the task has explanations."""

    @staticmethod
    @abstractmethod
    def summary(document: dict[str, Any]) -> dict[str, Any]:
        """Return the part of a prediction that is stored beside the sample when the archive is built.

        Numbers have four digits: a processor's rounding must not change the archive's bytes.
        """

    @abstractmethod
    def verify_sample(self, actual: dict[str, Any], stored: dict[str, Any]) -> None:
        """Raise `ProgramError` if the summary of the sample's prediction differs from the stored one."""

    def warm_up(self, result: Result) -> None:  # noqa: B027 - optional
        """Run once, at build and at start, what requests may need beyond `predict`."""

    def summarize_request(self, predictions: Sequence[Prediction | RequestError]) -> dict[str, Any]:  # noqa: ARG002
        """Return further keys for a response to several images: what they mean together."""
        return {}

    def compare(self, name: str, actual: float, stored: float, tolerance: float = TOLERANCE) -> None:
        """Raise `ProgramError` if a number of a summary differs from the stored one by more than the tolerance."""
        if not abs(actual - stored) <= tolerance:
            raise ProgramError(
                f"{self.recipe.name} {self.recipe.version} answers its sample with {name} {actual:.4f}, but "
                f"{stored:.4f} was stored at build time: the archive or its environment changed. Build it again."
            )

    def initialize(self, context: Any) -> None:
        """Load the archive and verify its sample's prediction; on an error TorchServe reports the worker as failed."""
        log_to_torchserve(getattr(context, "manifest", None) or {})
        folder = Path(context.system_properties["model_dir"])
        self.load(folder, _device(context), int(context.system_properties.get("batch_size") or 1))
        settings = getattr(context, "model_yaml_config", None) or {}
        self.seconds = _TIME_SHARE * float(settings.get("responseTimeout") or _DEFAULT_TIMEOUT)
        stored = json.loads((folder / SAMPLE_PREDICTION).read_bytes())
        for size in (1, self.pipeline.batch):
            for summary in self.predict_sample(folder, size):
                self.verify_sample(summary, stored)
        self._apply_profile()
        reference = distribution.load(folder, self.recipe, has_profile=self.model.profile is not None)
        self.meter.connect(getattr(context, "metrics", None), reference)
        self.tracer = Tracer.create("radserve-worker")
        release_free_memory()

    def load(self, folder: Path, device: str = "cpu", batch: int = 1, mode: Mode | None = None) -> None:
        """Load an unpacked archive without verifying its sample; the default mode is that of the environment."""
        self.recipe = recipe.load(folder / "archive.yaml")
        name, version = self.recipe.name, self.recipe.version
        self.model = Model(name, version, _sha256(name, version), self.recipe.warning)
        self.limits = BodyLimits()
        self.seconds = _DEFAULT_TIMEOUT * _TIME_SHARE
        self.max_response = int(os.environ.get(MAX_RESPONSE, _TORCHSERVE_MAX_RESPONSE))
        self.lost = False
        program = engine.load(folder, self.recipe, device)
        self.meter = Meter(self.recipe)
        required = requirements.of(name, os.environ.get(REQUIRE, ""))
        sample = hashlib.sha256((folder / self.recipe.sample).read_bytes()).hexdigest()
        mode = mode or assessment.parse_mode(os.environ.get(DOMAIN, ""))
        self.policy = Policy(mode, self.recipe.detector is not None, sample)
        fitted = None if mode == "off" else detector.load(folder, self.recipe)
        self.pipeline = Pipeline(
            self.recipe, program, self.limits.image, batch, self.meter.time, required, sample, fitted, mode == "strict"
        )

    def _apply_profile(self) -> None:
        """Apply the site's profile, after the sample was verified with the recipe of the archive."""
        verified = profile.for_worker(self.recipe.name, self.recipe.version, self.model.sha256)
        if verified is not None:
            self.recipe = verified.profile.apply(self.recipe)
            fitted = self.pipeline.detector
            if fitted is not None and verified.profile.detector is not None and self.recipe.detector is not None:
                fitted = replace(fitted, section=self.recipe.detector, site=verified.profile.site)
            self.pipeline = replace(self.pipeline, recipe=self.recipe, detector=fitted)
            self.model = replace(self.model, profile=verified.reference)

    def predict_sample(self, folder: Path, size: int = 1) -> list[dict[str, Any]]:
        """Predict the archive's sample `size` times in one batch; return the summaries."""
        sample = (folder / self.recipe.sample).read_bytes()
        summaries: list[dict[str, Any]] = []
        for result in self.pipeline([sample] * size):
            if isinstance(result, RequestError):
                raise ProgramError(f"{self.recipe.name} rejects its own sample: {result}")
            if not summaries:
                self.warm_up(result)
            summaries.append(self.summary(self.predict(result).document))
        return summaries

    def handle(self, data: list[Mapping[str, Any]], context: Any) -> list[bytes]:
        """Respond to one batch of requests: one body each, in order, each with its own status."""
        start = time.monotonic()
        with busy_lock(), self.meter.time("handle"):
            self.meter.batch.observe(len(data))
            headers = [
                request_body.parse_headers(context.get_all_request_header(index) or {}) for index in range(len(data))
            ]
            # An exception that escaped to TorchServe would be answered 503 by it, without a count.
            traces = [Trace() for _ in data]
            responses = attempt("answering this batch", self._respond_all, data, headers, traces, start)
            if isinstance(responses, RequestError):
                responses = [render_error(self._count(responses, _id(item))) for item in headers]
            for index, response in enumerate(responses):
                phrase = HTTPStatus(response.status).phrase
                context.set_response_status(code=response.status, phrase=phrase, idx=index)
                context.set_response_content_type(index, response.media_type)
                for name, value in response.headers.items():
                    context.set_response_header(index, name, value)
                self.meter.requests.labels(response.status).inc()
                self.tracer.record(traces[index], headers[index], response.status, self._span_attributes)
        if self.lost:
            self.meter.send()  # The process ends before the timer could send.
        else:
            self.meter.schedule_send()
        return [response.body for response in responses]

    @property
    def _span_attributes(self) -> dict[str, str]:
        return {"radserve.model": self.recipe.name, "radserve.version": self.recipe.version}

    def _read(self, fields: Mapping[str, Any], headers: Mapping[str, str], trace: Trace) -> Request | RequestError:
        request_id = _id(headers)
        if is_stopping():
            error = ServiceUnavailableError("The server is stopping; connect again to reach another one.")
            return self._count(error, request_id)
        body = attempt("reading this request", request_body.read, fields, headers, self.limits)
        if isinstance(body, RequestError):
            return self._count(body, request_id)
        return Request(request_id, body, headers.get("accept", ""), headers.get("explain") == "True", trace)

    def _count(self, error: RequestError, request_id: str) -> RequestError:
        """Count an error, and log it with its traceback if it is the server's fault; see also `_respond`."""
        self.meter.rejection(error)
        if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, OverdueError):
            notes = getattr(error, "__notes__", None) or [without_messages(error)]
            logger.error("%s\n%s", error, "\n".join(notes), extra={"request_id": request_id})
        return error

    def _respond_all(
        self,
        data: Sequence[Mapping[str, Any]],
        headers: Sequence[Mapping[str, str]],
        traces: Sequence[Trace],
        start: float,
    ) -> list[Response]:
        """Respond to each request of a batch, the small ones first, and each within its part of the batch's time.

        So no request takes the time of its neighbours: each of n requests has a n-th of `self.seconds`, and what the
        requests before it left. Images that get no time are answered 503.
        """
        with self.meter.time("read"):
            requests = [self._read(*parts) for parts in zip(data, headers, traces, strict=True)]
        order = sorted(range(len(requests)), key=lambda index: _size(requests[index]))
        limits = {
            index: self.limits.for_request(start + self.seconds * place / len(requests))
            for place, index in enumerate(order, 1)
        }
        responses: dict[int, Response] = {}
        try:
            if self.lost:
                raise DeviceLostError("The device was lost before.")
            results = self.pipeline.stream(
                (image, limits[index], traces[index], assured, requested)
                for index in order
                for image, assured, requested in _images(requests[index])
            )
            for index in order:
                item = requests[index]
                if isinstance(item, RequestError):
                    responses[index] = render_error(item)
                    continue
                share = islice(results, len(item.body.images))
                response = attempt("answering this request", self._respond, item, share)
                deque(share, maxlen=0)  # after a failure: the next request gets its own results
                responses[index] = (
                    render_error(self._count(response, item.id)) if isinstance(response, RequestError) else response
                )
            return [responses[index] for index in range(len(requests))]
        except DeviceLostError as lost:
            self._exit_soon()
            error = ServiceUnavailableError("This worker lost its accelerator and is being replaced; try again.")
            error.add_note("".join(traceback.format_exception(lost)))
            return [
                render_error(item if isinstance(item, RequestError) else self._count(error, item.id))
                for item in requests
            ]

    def _exit_soon(self) -> None:
        """Exit after the responses left: TorchServe then starts a new worker, with a new CUDA context."""
        if not self.lost:
            logger.error("The worker exits: its accelerator is lost")
            self.lost = True
            threading.Timer(_EXIT_DELAY, os._exit, (1,)).start()

    def _respond(self, request: Request, results: Iterable[Result | RequestError]) -> Response:
        each = [self._predict(request, result) for result in results]
        predictions = settle(each)
        for item in predictions:
            if isinstance(item, RequestError) and item not in each:
                self._count(item, request.id)
        if len(predictions) != len(request.body.images):
            raise InternalError("The server lost images of this request; its log has the details.")
        self.meter.images.observe(len(predictions))
        if overdue := sum(isinstance(item, OverdueError) for item in predictions):
            text = "%d of %d images are not processed: the time of the request is over"
            logger.warning(text, overdue, len(predictions), extra={"request_id": request.id})
        response = attempt("rendering this response", self._render, request, predictions)
        if isinstance(response, RequestError):
            # The error of an image is counted already.
            response = render_error(response if response in predictions else self._count(response, request.id))
        else:
            for document in [item.document for item in predictions if isinstance(item, Prediction)]:
                self.meter.prediction(document)
        return with_outcome(response, predictions)

    def _predict(self, request: Request, result: Result | RequestError) -> Prediction | RequestError:
        if isinstance(result, RequestError):
            return self._count(result, request.id)
        with self.meter.time("explain" if request.explain else "answer"), stage("postprocess", [request.trace]):
            prediction = attempt("rendering this prediction", self._predict_image, request, result)
        if result.assessment is not None:
            self.meter.assessment(result.assessment)
        if isinstance(prediction, RequestError):
            return self._count(prediction, request.id)
        if request.body.several:
            # A list has no picture; the functions that draw one would keep all pixels in memory.
            return replace(prediction, pictures={})
        image = result.prepared.image
        return replace(prediction, pictures={**prediction.pictures, IMAGE: lambda: png.png(png.plain(image))})

    def _predict_image(self, request: Request, result: Result) -> Prediction:
        """Predict one image, or raise its rejection; an unlike slice of a possible series keeps it, see `settle`."""
        rejection = self.policy.rejection(result)
        if rejection is not None and not (request.body.several and self.measures_volumes):
            raise rejection
        prediction = self.explain(result) if request.explain else self.predict(result)
        return replace(self.policy.mark(prediction, result), rejection=rejection)

    def _render(self, request: Request, predictions: list[Prediction | RequestError]) -> Response:
        with self.meter.time("render"), stage("postprocess", [request.trace]):
            response = render(self._combine(request.body, predictions), request.accept)
        if len(response.body) > self.max_response:
            raise InternalError(
                f"The response has {len(response.body)} bytes; the limit is {self.max_response}. "
                "Send fewer images in one request, or smaller ones."
            )
        return response

    def _combine(self, body: RequestBody, predictions: list[Prediction | RequestError]) -> Prediction:
        """Return one prediction for the images of a request."""
        for item in predictions:
            # A missing operation concerns the request, not one of its images.
            if isinstance(item, RequestError) and (not body.several or isinstance(item, NotFoundError)):
                raise item
        if not body.several:
            (prediction,) = predictions
            assert isinstance(prediction, Prediction)
            return prediction
        entries = [
            _problem(item, image) if isinstance(item, RequestError) else item.document
            for item, image in zip(predictions, body.images, strict=True)
        ]
        if body.names:
            entries = [{"name": name} | entry for name, entry in zip(body.names, entries, strict=True)]
        return Prediction({"predictions": entries} | self.summarize_request(predictions))


def _problem(error: RequestError, image: EncodedImage) -> dict[str, Any]:
    """Return an error as problem details, which name the frame that it is about."""
    return problem_details(error) | ({"frame": image.number} if isinstance(image, Frame) else {})


def _id(headers: Mapping[str, str]) -> str:
    return headers.get("x-request-id", "")


def _images(request: Request | RequestError) -> list[tuple[EncodedImage, Assurances, Repair | None]]:
    """Return the images of a request, what the client states about each, and the repair that it asks for."""
    if isinstance(request, RequestError):
        return []
    body = request.body
    return [(image, body.assured(index), body.repair) for index, image in enumerate(body.images)]


def _size(request: Request | RequestError) -> tuple[int, int]:
    """Return a sort key: the number of images of a request, then their bytes."""
    images = _images(request)
    return len(images), sum(len(image) for image, *_ in images if isinstance(image, bytes))


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
