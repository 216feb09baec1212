"""Runs images through decoding, checks, preprocessing and the network; shared by serving, evaluation and tests."""

import hashlib
import re
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Final, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from handlers import repair, second_pass, suitability
from handlers.dicom.multi_frame import Frame
from handlers.domain.assessment import Assessment
from handlers.domain.detector import Detector
from handlers.engine import Engine
from handlers.errors import BadRequestError, DeviceLostError, InternalError, RequestError, ServiceUnavailableError
from handlers.formats import raw
from handlers.formats.decode import decode
from handlers.formats.image import Image, Limits
from handlers.formats.raw import RawSamples
from handlers.preprocess import at_least, preprocess
from handlers.recipe import Recipe
from handlers.repair import Repair
from handlers.scope import scope
from handlers.scope.scope import NO_ASSURANCES, Assurances, Report
from handlers.tracing import Trace, stage

EncodedImage = bytes | RawSamples | Frame | RequestError
"""An image as extracted from a request, or the error in its place."""
ImageRequest = tuple[EncodedImage, Limits, Trace, Assurances, Repair | None]
"""An image, with the limits, the trace, the assurances and the repair of its request."""
_OUT_OF_MEMORY: Final = re.compile(r"out of memory|can(?:'t|not) allocate memory", re.IGNORECASE)
"""Texts of torch's allocators: of CUDA, and of the CPU, which reports a RuntimeError."""
_Row = dict[str, NDArray[np.float32]]
"""Outputs of the network for one image."""
_Parameters = ParamSpec("_Parameters")
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class PreparedImage:
    """A decoded, perhaps repaired image and the network's input, float32 of shape (channels, height, width)."""

    image: Image
    sha256: str
    tensor: NDArray[np.float32]
    trace: Trace = field(default_factory=Trace)
    scope: Report = field(default_factory=Report)
    repair: Repair | None = None
    prevalence: float | None = None  # share of positive images that the client states


@dataclass(frozen=True)
class Result:
    """An image and its rows of the network's outputs."""

    prepared: PreparedImage
    outputs: _Row
    assessment: Assessment | None = None  # None without a detector
    second_logits: NDArray[np.float32] | None = None  # of the second pass; None without one

    def unlike(self, exempt: str | None) -> Assessment | None:
        """Return the assessment, if the image is unlike the training images and not the `exempt` sample."""
        assessed = self.assessment
        is_unlike = assessed is not None and assessed.status == "unlike" and self.prepared.sha256 != exempt
        return assessed if is_unlike else None


@dataclass(frozen=True)
class Pipeline:
    """A recipe and its program."""

    recipe: Recipe
    program: Engine
    limits: Limits = field(default_factory=Limits)
    batch: int = 8  # most images that go through the network together
    # entered around the stages `prepare` and `inference` of each batch
    timer: Callable[[str], AbstractContextManager[object]] = nullcontext
    required: frozenset[str] = frozenset()  # attributes of the scope without which no image is analysed ...
    exempt: str | None = None  # ... but this one: SHA-256 of the archive's synthetic sample
    detector: Detector | None = None  # None if no image is compared with the training images
    rejects_unlike: bool = False  # whether those unlike the training images are rejected, so need no second pass

    def prepare(
        self,
        data: bytes | RawSamples | Frame,
        limits: Limits | None = None,
        trace: Trace | None = None,
        assurances: Assurances = NO_ASSURANCES,
        requested: Repair | None = None,
    ) -> PreparedImage:
        """Decode, repair, check and preprocess one encoded image; raises `RequestError` if it is rejected."""
        spec, limits, trace = self.recipe.input, limits or self.limits, trace or Trace()
        limits.budget.check_time()
        if assurances.prevalence is not None and self.recipe.calibration.prevalence is None:
            raise BadRequestError(
                f"{self.recipe.name} does not accept a prevalence: it is not a calibrated classifier with two labels."
            )
        with stage("decode", [trace]):
            if isinstance(data, RawSamples):
                image = raw.decode(data, spec)
            else:
                least = at_least(spec)
                least = least[::-1] if requested is not None and requested.swaps_sides else least
                image = decode(data, limits, least)
            image = repair.apply(image, requested)
        with stage("preprocess", [trace]):
            sha256 = _sha256(data)
            required = frozenset[str]() if sha256 == self.exempt else self.required
            report = scope.check(self.recipe.scope, image.statements, assurances, required)
            suitability.check(image, spec, self.recipe.scope.enlargement)
            report = replace(report, notes=suitability.notes(image, self.recipe.scope.sequences))
            tensor = preprocess(image, spec)
            return PreparedImage(image, sha256, tensor, trace, report, requested, assurances.prevalence)

    def __call__(self, images: Sequence[EncodedImage]) -> list[Result | RequestError]:
        """Run all images; an error concerns its own image only, except `DeviceLostError`."""
        return list(self.stream((image, self.limits, Trace(), NO_ASSURANCES, None) for image in images))

    def stream(self, images: Iterable[ImageRequest]) -> Iterator[Result | RequestError]:
        """Run all images batch by batch, each within its limits, and add the times to its trace.

        At most one batch of decoded images is in memory, and less of large ones: a batch ends with the image that
        reaches the pixels of one image of the largest size.
        """
        waiting = iter(images)
        while results := deque(self._run(self._prepare_batch(waiting))):
            while results:
                yield results.popleft()

    def _prepare_batch(self, waiting: Iterator[ImageRequest]) -> list[PreparedImage | RequestError]:
        items: list[PreparedImage | RequestError] = []
        pixels = 0
        with self.timer("prepare"):
            while len(items) < self.batch and pixels < self.limits.pixels and (entry := next(waiting, None)):
                image, limits, trace, assurances, requested = entry
                if isinstance(image, RequestError):
                    items.append(image)
                    continue
                item = attempt("preparing this image", self.prepare, image, limits, trace, assurances, requested)
                items.append(item)
                if isinstance(item, PreparedImage):
                    pixels += item.image.width * item.image.height
        return items

    def _run(self, items: list[PreparedImage | RequestError]) -> list[Result | RequestError]:
        prepared = [item for item in items if isinstance(item, PreparedImage)]
        if not prepared:
            return [item for item in items if isinstance(item, RequestError)]
        with self.timer("inference"), stage("inference", {item.trace for item in prepared}):
            results = iter(self._run_batch(prepared))
        return [next(results) if isinstance(item, PreparedImage) else item for item in items]

    def _run_batch(self, items: list[PreparedImage]) -> list[Result | RequestError]:
        names = () if self.detector is None else self.detector.outputs
        rows = self._forward([item.tensor for item in items], ("logits", *names))
        results = [
            row if isinstance(row, RequestError) else attempt("checking this image", self._assess, item, row)
            for item, row in zip(items, rows, strict=True)
        ]
        return results if self.recipe.second_pass is None else self._with_second_passes(results)

    def _forward(self, tensors: list[NDArray[np.float32]], names: Sequence[str]) -> list[_Row | RequestError]:
        try:
            outputs = self.program.run(np.stack(tensors), names)
        except DeviceLostError:
            raise
        except Exception as error:  # noqa: BLE001 - logged with the request; see `attempt`
            if len(tensors) > 1:
                # The cause is one image, or the size of the batch: run each image alone.
                return [row for tensor in tensors for row in self._forward([tensor], names)]
            return [model_error(error)]
        return [{name: value[row] for name, value in outputs.items()} for row in range(len(tensors))]

    def _with_second_passes(self, results: list[Result | RequestError]) -> list[Result | RequestError]:
        """Run the second passes of the dark images together; where one fails, its image has no result."""
        inputs = [
            item if isinstance(item, RequestError) else attempt("brightening this image", self._second_input, item)
            for item in results
        ]
        due = [view for view in inputs if isinstance(view, np.ndarray)]
        rows = iter(self._forward(due, ("logits",)) if due else ())
        outcomes = [next(rows) if isinstance(view, np.ndarray) else view for view in inputs]
        return [_joined(item, outcome) for item, outcome in zip(results, outcomes, strict=True)]

    def _second_input(self, result: Result) -> NDArray[np.float32] | None:
        """Return the network's input of the second pass; None for an image that gets none."""
        spec = self.recipe.input
        if self.rejects_unlike and result.unlike(self.exempt) is not None:
            return None
        if not second_pass.is_due(result.prepared.tensor, spec, self.recipe.second_pass):
            return None
        return preprocess(second_pass.copy(result.prepared.image, spec), spec)

    def _assess(self, prepared: PreparedImage, outputs: _Row) -> Result:
        if self.detector is None:
            return Result(prepared, outputs)
        stated = {statement.attribute for statement in prepared.image.statements}
        assessment = self.detector.assess(outputs, prepared.tensor)
        return Result(prepared, outputs, assessment.compared(stated.intersection(self.recipe.scope.attributes)))


def _joined(result: Result | RequestError, second: _Row | RequestError | None) -> Result | RequestError:
    if second is None or isinstance(result, RequestError):
        return result
    return second if isinstance(second, RequestError) else replace(result, second_logits=second["logits"])


def attempt(
    activity: str, function: Callable[_Parameters, _Value], *args: _Parameters.args, **kwargs: _Parameters.kwargs
) -> _Value | RequestError:
    """Call a function and return its value, or the `RequestError` that its failure becomes.

    An exception that escaped to TorchServe would turn all responses of the batch into 503. Only `DeviceLostError`
    passes: it concerns the process. `activity` is for the message: "preparing this image". The error has a note with
    the traceback, for the log line of the request.
    """
    try:
        return function(*args, **kwargs)
    except RequestError as error:
        return error
    except DeviceLostError:
        raise
    except Exception as error:  # noqa: BLE001 - logged with the request
        return _server_error(error, activity, without_messages(error))


def _sha256(data: bytes | RawSamples | Frame) -> str:
    """Return the digest of the bytes that were sent."""
    if isinstance(data, Frame):
        return data.source.sha256
    return hashlib.sha256(data.data if isinstance(data, RawSamples) else data).hexdigest()


def model_error(error: Exception) -> RequestError:
    """Return the error of the image on which the model failed."""
    return _server_error(error, "running the model on this image", "".join(traceback.format_exception(error)))


def without_messages(error: BaseException | None) -> str:
    """Format a traceback without the messages of its exceptions, which may quote the image, like a patient's name."""
    parts = []
    while error is not None:
        parts.append("".join(traceback.format_tb(error.__traceback__)) + type(error).__qualname__)
        error = error.__cause__ or error.__context__
    return "\ncaused by:\n".join(parts)


def _server_error(error: Exception, activity: str, note: str) -> RequestError:
    """Return the error for the client, with the traceback as text, because frames would keep images in memory."""
    failure: RequestError
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error))):
        failure = ServiceUnavailableError("The server is short of memory; try again in a moment.")
    else:
        failure = InternalError(f"The server failed while {activity}; its log has the details.")
    failure.add_note(note)
    return failure
