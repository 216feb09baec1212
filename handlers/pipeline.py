"""Runs images through decoding, checks, preprocessing and the network; shared by serving, evaluation and tests."""

import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Final, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from handlers.errors import DeviceLostError, InternalError, RequestError, ServiceUnavailableError
from handlers.formats import raw
from handlers.formats.decode import decode
from handlers.formats.image import Image, Limits
from handlers.formats.raw import RawSamples
from handlers.preprocess import at_least, preprocess
from handlers.program import Program
from handlers.recipe import Recipe
from handlers.suitability import check

logger = logging.getLogger(__name__)

_OUT_OF_MEMORY: Final = re.compile(r"out of memory|can(?:'t|not) allocate memory", re.IGNORECASE)
"""Texts of torch's allocators: of CUDA, and of the CPU, which reports a RuntimeError."""
_Parameters = ParamSpec("_Parameters")
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class PreparedImage:
    """A decoded image and the network's input made from it, float32 of shape (channels, height, width)."""

    image: Image
    sha256: str
    tensor: NDArray[np.float32]


@dataclass(frozen=True)
class Result:
    """An image and its rows of the network's outputs."""

    prepared: PreparedImage
    outputs: dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Pipeline:
    """A recipe and its program."""

    recipe: Recipe
    program: Program
    limits: Limits = field(default_factory=Limits)
    batch: int = 8  # most images that go through the network together
    # entered around the stages `prepare` and `inference` of each batch
    timer: Callable[[str], AbstractContextManager[object]] = nullcontext

    def prepare(self, data: bytes | RawSamples) -> PreparedImage:
        """Decode, check and preprocess one encoded image; raises `RequestError` if it is rejected."""
        spec = self.recipe.input
        if isinstance(data, RawSamples):
            image, encoded = raw.decode(data, spec), data.data
        else:
            image, encoded = decode(data, self.limits, at_least(spec)), data
        check(image, spec)
        return PreparedImage(image, hashlib.sha256(encoded).hexdigest(), preprocess(image, spec))

    def __call__(self, images: Sequence[bytes | RawSamples | RequestError]) -> list[Result | RequestError]:
        """Run all images; an error concerns its own image only, except `DeviceLostError`."""
        return list(self.stream(images))

    def stream(self, images: Sequence[bytes | RawSamples | RequestError]) -> Iterator[Result | RequestError]:
        """Run all images batch by batch, so that at most one batch of decoded images is in memory."""
        for start in range(0, len(images), self.batch):
            with self.timer("prepare"):
                items = [
                    item if isinstance(item, RequestError) else attempt("preparing this image", self.prepare, item)
                    for item in images[start : start + self.batch]
                ]
            results = iter(self._run([item for item in items if isinstance(item, PreparedImage)]))
            for item in items:
                yield next(results) if isinstance(item, PreparedImage) else item

    def _run(self, items: list[PreparedImage]) -> list[Result | RequestError]:
        if not items:
            return []
        with self.timer("inference"):
            return self._run_batch(items)

    def _run_batch(self, items: list[PreparedImage]) -> list[Result | RequestError]:
        try:
            outputs = self.program.run(np.stack([item.tensor for item in items]))
        except DeviceLostError:
            raise
        except Exception as error:
            if len(items) > 1:
                # The cause is one image, or the size of the batch: run each image alone.
                return [result for item in items for result in self._run_batch([item])]
            logger.exception("Running the model failed")
            return [model_error(error)]
        return [Result(item, {name: value[row] for name, value in outputs.items()}) for row, item in enumerate(items)]


def attempt(
    activity: str, function: Callable[_Parameters, _Value], *args: _Parameters.args, **kwargs: _Parameters.kwargs
) -> _Value | RequestError:
    """Call a function and return its value, or the `RequestError` that its failure becomes.

    An exception that escaped to TorchServe would turn all responses of the batch into 503. Only `DeviceLostError`
    passes: it concerns the process. `activity` is for log and message: "preparing this image".
    """
    try:
        return function(*args, **kwargs)
    except RequestError as error:
        return error
    except DeviceLostError:
        raise
    except Exception as error:
        logger.exception("The server failed while %s", activity)
        return _server_error(error, activity)


def model_error(error: Exception) -> RequestError:
    """Return the error of the image on which the model failed."""
    return _server_error(error, "running the model on this image")


def _server_error(error: Exception, activity: str) -> RequestError:
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error))):
        return ServiceUnavailableError("The server is short of memory; try again in a moment.")
    return InternalError(f"The server failed while {activity}; its log has the details.")
