"""Measures what a detector refuses: held-out images, changed ones, and images of other things."""

import io
import logging
import random
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow

from handlers.domain import detector as detectors
from handlers.domain.detector import Detector
from handlers.recipe import Recipe
from training.datasets import Example, training_data
from training.detector import calibration, probes
from training.detector.calibration import DEFAULT, Distances, Shares
from training.detector.copies import encode
from training.detector.cross_fit import measure
from training.detector.fit import load_network, with_copies
from training.detector.observations import Network, Observations, observe, serve
from training.errors import DataError, RunError
from training.metrics.proportion import wilson
from training.metrics.report import Refusal, Refusals
from training.settings import Settings

_MOST: Final = 100
"""Most images of one kind, except held-out ones."""
_TIMED: Final = 50
_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})
_MASK: Final = "_mask"
_log = logging.getLogger(__name__)


class Readable(Protocol):
    """An image that is read on demand."""

    def read(self) -> bytes:
        """Return the encoded image."""


@dataclass(frozen=True)
class Subject:
    """A detector, its model's network, and the confidence below which that alone would refuse an image.

    Without a network, no image has a confidence.
    """

    detector: Detector
    network: Network | None
    recipe: Recipe
    confidence: float = 0

    def observe(self, images: Iterator[bytes]) -> tuple[Observations, Distances]:
        """Collect the evidence of images and their distances."""
        seen = observe(self.network, self.recipe.input, images, self.detector.metric.parts)
        return seen, measure(self.detector.metric, seen)

    def statuses(self, distances: Distances) -> NDArray[np.int64]:
        """Return 0 (normal), 1 (unusual) or 2 (unlike) for each image."""
        scores = np.max([value / self.detector.limits[name] for name, value in distances.items()], axis=0)
        section = self.detector.section
        statuses: NDArray[np.int64] = (scores >= section.marked).astype(np.int64) + (scores >= section.refused)
        return statuses

    def refusal(self, images: Iterator[bytes]) -> Refusal:
        """Measure images of one kind."""
        seen, distances = self.observe(images)
        return self.count(self.statuses(distances), seen)

    def count(self, statuses: NDArray[np.int64], seen: Observations) -> Refusal:
        """Count statuses, 0 (normal), 1 (unusual) or 2 (unlike), of images."""
        refused, images = int((statuses == 2).sum()), len(statuses)
        return Refusal(
            images=images,
            refused=refused,
            refused_ci95=wilson(refused, images),
            marked=int((statuses > 0).sum()),
            softmax=int((seen.confidence < self.confidence).sum()),
        )


def measure_refusals(
    folder: Path, recipe: Recipe, config: Settings, data: Path, others: Mapping[str, Path], command: str
) -> Refusals:
    """Measure the detector of the model in a folder on its validation side; `others` are folders of other images."""
    detector = detectors.load(folder, recipe)
    if detector is None:
        fit = f"radserve fit-detector {recipe.name} --data DIR --install"
        raise RunError(f"{recipe.name}: has no detector. Fit one with '{fit}'.")
    network = load_network(recipe, folder, detector.section.layers)
    examples = training_data.load_sides(recipe, config, data).validation
    options = config.detector
    shares = DEFAULT if options is None else Shares(options.marked, options.refused)
    subject, measured = _held_out(Subject(detector, network, recipe), examples, shares)
    for name, images in kinds(recipe, examples, others):
        _log.info("measuring: %s", name)
        measured[name] = subject.refusal(images)
    return Refusals(
        detector_sha256=detector.section.sha256,
        command=command,
        milliseconds=round(_milliseconds(subject, examples[:_TIMED]), 2),
        kinds=measured,
    )


def _held_out(subject: Subject, examples: Sequence[Example], shares: Shares) -> tuple[Subject, dict[str, Refusal]]:
    """Measure held-out images and re-encoded ones; set the confidence alike.

    Limits of other groups of these images apply, unless the detector's were chosen on training images.
    """
    generator = random.Random("held out")  # noqa: S311 - not for security
    seen, distances = subject.observe(with_copies(examples, 1, generator))
    groups = [example.group for example in examples for _ in range(2)]
    is_elsewhere = subject.detector.section.limits_on == "training"
    statuses = subject.statuses(distances) if is_elsewhere else calibration.crossed(distances, groups, shares)
    own = statuses[::2]
    confidence = float(np.quantile(seen.confidence[::2].numpy(), np.mean(own == 2)))
    subject = Subject(subject.detector, subject.network, subject.recipe, confidence)
    sides = (("held out", slice(0, None, 2)), ("held out, re-encoded", slice(1, None, 2)))
    return subject, {name: subject.count(statuses[part], seen.rows(part)) for name, part in sides}


def kinds(
    recipe: Recipe, examples: Sequence[Readable], others: Mapping[str, Path]
) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Return the images of each kind that the model must not analyse."""
    mode = "L" if recipe.input.color == "gray" else "RGB"
    some = random.Random("changes").sample(examples, min(_MOST, len(examples)))  # noqa: S311 - not for security
    for name, folder in others.items():
        yield name, _files(name, folder, mode)
    for name, draw in probes.DRAWINGS.items():
        generator = random.Random(name)  # noqa: S311 - not for security
        yield name, (encode(draw(generator).convert(mode)) for _ in range(_MOST))
    for name, change in probes.CHANGES.items():
        yield name, _changed(name, change, some, mode)


def _changed(name: str, change: probes.Change, examples: Sequence[Readable], mode: str) -> Iterator[bytes]:
    generator = random.Random(name)  # noqa: S311 - not for security
    for example in examples:
        with Pillow.open(io.BytesIO(example.read())) as image:
            yield encode(change(image.convert(mode), generator).convert(mode))


def _files(name: str, folder: Path, mode: str) -> Iterator[bytes]:
    """Read images of a folder in the mode of the model; small ones, like photographs of 32 x 32, are enlarged."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and _MASK not in path.name)
    if not paths:
        raise DataError(f"{folder}: contains no images ({', '.join(sorted(_SUFFIXES))}) for --other {name!r}.")
    for path in random.Random(name).sample(paths, min(_MOST, len(paths))):  # noqa: S311 - not for security
        with Pillow.open(path) as opened:
            image = opened.convert(mode)
        scale = max(1, 256 / min(image.size))
        size = (round(image.width * scale), round(image.height * scale))
        yield encode(image if scale == 1 else image.resize(size, Pillow.Resampling.BICUBIC))


def _milliseconds(subject: Subject, examples: Sequence[Example]) -> float:
    """Return the median processor time of an assessment after the network has run."""
    threads = torch.get_num_threads()
    times = []
    torch.set_num_threads(1)
    try:
        for example in examples:
            outputs, tensor = serve(subject.network, subject.recipe.input, example.read())
            start = time.process_time()
            subject.detector.assess(outputs, tensor)
            times.append(time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    return statistics.median(times) * 1000
