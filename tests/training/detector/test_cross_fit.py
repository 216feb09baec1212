import pytest
import torch

from handlers.domain.pose import POSES
from training.detector import pose
from training.detector.cross_fit import Sample, Shape, cross_fitted, fit_to, measured
from training.detector.observations import Observations
from training.errors import RunError
from training.settings import Augmentation

from .test_pose import heads

SHAPE = Shape({"shape": 4}, Augmentation(), seed=1, labels=1, each=2)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pose, "_STEPS", 5)


def _sample(groups: int = 30, odd: int | None = None) -> Sample:
    """Two equal images per group; those of the group `odd` are far from all others."""
    values = torch.randn(groups, 12, generator=torch.Generator().manual_seed(1)).repeat_interleave(2, 0)
    if odd is not None:
        values[2 * odd : 2 * odd + 2, 0] = 50
    thumbnails = heads(groups, 0).repeat_interleave(2, 0)
    names = tuple(f"group {row // 2:02}" for row in range(2 * groups))
    seen = Observations({"shape": values}, thumbnails, torch.full((2 * groups,), torch.nan))
    return Sample(seen, torch.zeros(2 * groups).long(), names)


def test_an_image_is_measured_by_a_fit_without_its_group() -> None:
    """A fit that has seen an odd image calls it near."""
    sample = _sample(odd=7)
    held_out = cross_fitted(sample, SHAPE)
    within = measured([(fit_to(sample, SHAPE), sample.observations)], sample.groups, ("shape",))
    name = "shape.distance"
    row, own = held_out.groups.index("group 07"), sample.groups.index("group 07")
    assert held_out.distances[name][row] > 3 * within.distances[name][own]


@pytest.mark.parametrize("groups", [30, 3])
def test_every_image_is_measured_once_and_keeps_its_group(groups: int) -> None:
    sample = _sample(groups)
    held_out = cross_fitted(sample, SHAPE)
    assert sorted(held_out.groups) == sorted(sample.groups)
    assert all(len(values) == len(sample.groups) for values in held_out.distances.values())
    assert len(held_out.accepted) == len(POSES)


def test_one_group_cannot_be_compared_with_others() -> None:
    with pytest.raises(RunError, match=r"at least 2 patients or groups; there is only 'group 00'.*'detector'"):
        cross_fitted(_sample(1), SHAPE)
