"""What a detector refuses, measured."""

import random

import numpy as np
import pytest

from handlers.formats import decode
from training.detector import probes
from training.detector.copies import copy, encode


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


def test_a_copy_looks_like_its_image() -> None:
    image = probes.DRAWINGS["drawn scenes"](random.Random(3))
    data = encode(image)
    copies = [copy(data, random.Random(seed)) for seed in range(8)]
    assert len(set(copies)) == len(copies)
    for each in copies:
        seen = decode.decode(each).pixels.convert("L").resize(image.size)
        assert np.abs(np.asarray(seen, float) - np.asarray(image, float)).mean() < 6
