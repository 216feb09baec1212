"""Recognition of rotated and inverted images, learned from synthetic ones."""

import pytest
import torch

from handlers.domain import pose
from handlers.domain.pose import POSES, SIDE
from training.detector import pose as training
from training.settings import Augmentation


def heads(count: int, seed: int) -> torch.Tensor:
    """Draw a bright disc in the upper half of a dark background, with noise."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIDE), torch.linspace(-1, 1, SIDE), indexing="ij")
    shift = torch.rand(count, 2, 1, 1, generator=generator) * 0.4 - 0.2
    disc = ((x + shift[:, 0]) ** 2 + (y + 0.5 + shift[:, 1]) ** 2 < 0.15).float()
    return (0.1 + 0.7 * disc + 0.05 * torch.randn(count, SIDE, SIDE, generator=generator)).clamp(0, 1)


def names(count: int) -> list[str]:
    return [f"group {number}" for number in range(count)]


def test_every_pose_of_unseen_images_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_STEPS", 150)
    weights = training.train(heads(60, 0), Augmentation(shift=0.05), seed=1)
    fresh = heads(40, 1)
    weights["accepted"] = training.accepted(training.likeliest(fresh, weights), names(40))
    assert weights["accepted"].tolist() == [True, False, False, False, False]
    for name in POSES[1:]:
        posed = torch.stack([training.give(gray, name) for gray in fresh])
        odds = pose.odds(posed, weights)
        likeliest = torch.stack(list(odds.values())).argmax(0)
        assert (likeliest == list(odds).index(name)).float().mean() > 0.95
        assert torch.equal(pose.undo(posed[0], name), fresh[0]) or name == "inverted"


def test_a_pose_that_training_images_have_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_STEPS", 100)
    weights = training.train(heads(60, 0), Augmentation(), seed=1)
    mixed = heads(40, 1)
    mixed[:10] = mixed[:10].flip(1)
    poses = training.likeliest(mixed, weights)
    assert training.accepted(poses, names(40))[POSES.index("rotated_180")]
    copies = ["turned"] * 10 + names(30)
    assert not training.accepted(poses, copies)[POSES.index("rotated_180")]


def test_training_is_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_STEPS", 3)
    first, second = (training.train(heads(20, 0), Augmentation(noise=0.1), seed=1) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
