"""What a detector refuses, measured."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from handlers.formats import decode
from handlers.recipe import Recipe
from training.detector import calibration, probes, refusals
from training.detector.calibration import DEFAULT, Distances
from training.detector.copies import copy, encode
from training.detector.observations import Observations
from training.detector.refusals import Subject


@pytest.mark.parametrize("name", probes.DRAWINGS)
def test_a_drawing_depends_only_on_the_seed_and_has_contrast(name: str) -> None:
    first, same, other = (probes.DRAWINGS[name](random.Random(seed)) for seed in (1, 1, 2))
    assert first.tobytes() == same.tobytes() != other.tobytes()
    assert np.ptp(np.asarray(first)) > 50


@pytest.mark.parametrize("name", probes.CHANGES)
def test_a_change_gives_another_image(name: str) -> None:
    image = probes.DRAWINGS["drawn scenes"](random.Random(3))
    changed = probes.CHANGES[name](image, random.Random(1))
    assert changed.mode == "L"
    assert np.abs(np.asarray(changed.resize(image.size), float) - np.asarray(image, float)).mean() > 5


@dataclass(frozen=True)
class _Measured(Subject):
    """Sees the same distances of any images; all are normal by the detector's own limits."""

    def observe(self, images: Iterator[bytes]) -> tuple[Observations, Distances]:
        empty = torch.zeros(8)
        return Observations({}, empty, empty), {"shape.distance": np.arange(8.0)}

    def statuses(self, distances: Distances) -> NDArray[np.int64]:
        return np.zeros(8, dtype=np.int64)


@pytest.mark.parametrize(("limits_on", "marked"), [("training", 0), ("validation", 1), (None, 1)])
def test_held_out_images_are_not_measured_by_limits_that_were_chosen_on_them(
    limits_on: str | None, marked: int, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "crossed", lambda *_: np.array([1, *[0] * 7]))
    detector = SimpleNamespace(section=SimpleNamespace(limits_on=limits_on))
    subject = _Measured(detector, None, recipe)  # type: ignore[arg-type]
    examples = [SimpleNamespace(group=str(number), read=bytes) for number in range(4)]
    _, measured = refusals._held_out(subject, examples, DEFAULT)  # type: ignore[arg-type]
    assert measured["held out"].marked == marked


def test_a_copy_looks_like_its_image() -> None:
    image = probes.DRAWINGS["drawn scenes"](random.Random(3))
    data = encode(image)
    copies = [copy(data, random.Random(seed)) for seed in range(8)]
    assert len(set(copies)) == len(copies)
    for each in copies:
        seen = decode.decode(each).pixels.convert("L").resize(image.size)
        assert np.abs(np.asarray(seen, float) - np.asarray(image, float)).mean() < 6
