"""The whole way of one image, without TorchServe: what evaluation, tests and the adapter share."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from handlers.errors import InternalError, RequestError, ServiceUnavailableError
from handlers.formats import cifar
from handlers.formats.cifar import Raw
from handlers.formats.decode import decode
from handlers.formats.image import Image, Limits
from handlers.preprocess import at_least, preprocess
from handlers.program import DeviceLostError, Program
from handlers.recipe import Recipe
from handlers.suitability import check

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """One image on its way: what is known of it, and the network's input made of it."""

    image: Image
    sha256: str
    tensor: NDArray[np.float32]


@dataclass(frozen=True)
class Result:
    """One image and the rows of the network's outputs that belong to it."""

    prepared: Prepared
    outputs: dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Pipeline:
    """A recipe and its program.

    Attributes
    ----------
    batch
        Most images that go through the network at once.
    timed
        Entered around each stage of a batch, `prepare` and `inference`.
    """

    recipe: Recipe
    program: Program
    limits: Limits = field(default_factory=Limits)
    batch: int = 8
    timed: Callable[[str], AbstractContextManager[object]] = nullcontext

    def prepare(self, data: bytes | Raw) -> Prepared:
        """Decode, check and preprocess one encoded image.

        Raises
        ------
        RequestError
            If the image is refused.
        """
        spec = self.recipe.input
        if isinstance(data, Raw):
            image, sent = cifar.decode(data, spec), data.data
        else:
            image, sent = decode(data, self.limits, at_least(spec)), data
        check(image, spec)
        return Prepared(image, hashlib.sha256(sent).hexdigest(), preprocess(image, spec))

    def __call__(self, images: Sequence[bytes | Raw | RequestError]) -> list[Result | RequestError]:
        """Answer every image; what goes wrong with one is that one's answer and nobody else's.

        Raises
        ------
        DeviceLost
            If this process has to be left.
        """
        return list(self.stream(images))

    def stream(self, images: Sequence[bytes | Raw | RequestError]) -> Iterator[Result | RequestError]:
        """Answer as a call does, one batch at a time: no more images than that are decoded at once."""
        for start in range(0, len(images), self.batch):
            with self.timed("prepare"):
                prepared = [self._try_prepare(image) for image in images[start : start + self.batch]]
            good = [item for item in prepared if isinstance(item, Prepared)]
            answers = iter(self._run_timed(good) if good else [])
            for item in prepared:
                yield next(answers) if isinstance(item, Prepared) else item

    def _try_prepare(self, image: bytes | Raw | RequestError) -> Prepared | RequestError:
        if isinstance(image, RequestError):
            return image
        try:
            return self.prepare(image)
        except RequestError as error:
            return error
        except Exception:  # a fault of ours: raised, TorchServe would answer the whole batch with 503
            logger.exception("preparing an image failed")
            return InternalError("Preparing this image failed by a fault of the server; it is logged.")

    def _run_timed(self, items: list[Prepared]) -> list[Result | RequestError]:
        with self.timed("inference"):
            return self._run_batch(items)

    def _run_batch(self, items: list[Prepared]) -> list[Result | RequestError]:
        try:
            outputs = self.program.run(np.stack([item.tensor for item in items]))
        except DeviceLostError:
            raise
        except Exception as error:
            if len(items) > 1:
                # One image, or the size of the batch, is at fault: find out which, and spare the others.
                return [answer for item in items for answer in self._run_batch([item])]
            logger.exception("running the model failed")
            return [blame(error)]
        return [Result(item, {name: value[row] for name, value in outputs.items()}) for row, item in enumerate(items)]


def blame(error: Exception) -> RequestError:
    """Turn what stopped the model into the answer to the image that it ran on."""
    if isinstance(error, MemoryError | RuntimeError) and "out of memory" in str(error).lower():
        return ServiceUnavailableError("The server is short of memory; try again in a moment.")
    return InternalError("Running the model on this image failed by a fault of the server; it is logged.")
