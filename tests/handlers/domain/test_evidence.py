"""What is computed of an image for the detector."""

import numpy as np
import pytest
import torch

from handlers.domain import evidence

MOMENTS = np.arange(4, dtype=np.float32)
GRAY = torch.rand(64, 96, generator=torch.Generator().manual_seed(1))


def test_all_parts_are_collected_to_fit_a_detector() -> None:
    assert set(evidence.collect(MOMENTS, GRAY)) == {"thumbnail", "shape", "texture", "features"}
    assert set(evidence.collect(None, GRAY)) == {"thumbnail", "shape", "texture"}


@pytest.mark.parametrize("names", [("features", "thumbnail"), ("thumbnail", "shape"), ("texture",)])
def test_only_the_parts_of_a_detector_are_computed(names: tuple[str, ...]) -> None:
    parts, every = evidence.collect(MOMENTS, GRAY, names), evidence.collect(MOMENTS, GRAY)
    assert set(parts) == set(names)
    assert all(torch.equal(parts[name], every[name]) for name in names)
