from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

from training.batches import Batch
from training.lightning_modules.base import Task
from training.settings import Settings


class _Told(Task):
    """Says of each epoch what it was told to."""

    watched = "figure"

    def __init__(self, settings: Settings, value: float = 0.0) -> None:
        layers = {"conv": nn.Conv2d(1, 2, 1), "norm": nn.BatchNorm2d(2), "drop": nn.Dropout(0.5)}
        super().__init__(nn.Sequential(OrderedDict(layers)), settings)
        self.value = value
        self.logged: dict[str, float] = {}

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (logits - targets).abs().mean()

    def watch(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self.loss(logits, targets)

    def watched_value(self) -> torch.Tensor:
        return torch.tensor(self.value)

    def log(self, name: str, value: object, **_: object) -> None:  # type: ignore[override]
        assert isinstance(value, torch.Tensor)
        self.logged[name] = float(value)

    def score(self, value: float, loss: float) -> float:
        """Score of an epoch with this figure and this loss."""
        self.value = value
        self.validation_loss.update(torch.tensor(loss))
        self.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
        self.on_validation_epoch_end()
        return self.logged["score"]


@pytest.fixture
def task() -> _Told:
    return _Told(Settings(data="chest_xray", seed=3))


def test_a_better_figure_wins_whatever_the_loss(task: _Told) -> None:
    assert task.score(0.902, loss=4.0) > task.score(0.901, loss=0.01)


def test_of_figures_equal_to_three_digits_the_lower_loss_wins(task: _Told) -> None:
    assert task.score(0.9012, loss=0.2) > task.score(0.9014, loss=0.3)


def test_an_exploded_loss_does_not_outweigh_the_figure(task: _Told) -> None:
    assert task.score(0.902, loss=1e9) > task.score(0.901, loss=0.01)


def test_each_epoch_has_its_own_loss(task: _Told) -> None:
    task.score(0.9, loss=5.0)
    assert task.score(0.9, loss=0.0) == pytest.approx(0.9)


def test_dropout_is_the_networks_own_unless_settings_say_otherwise() -> None:
    assert _Told(Settings(data="chest_xray")).network.drop.p == 0.5
    for share in (0.0, 0.3):
        assert _Told(Settings(data="chest_xray", dropout=share)).network.drop.p == share


def test_dropout_depends_on_seed_and_step_alone(task: _Told) -> None:
    batch: Batch = (torch.zeros(1), torch.zeros(1))

    def draw(asked: Task) -> float:
        torch.rand(7)
        asked.on_train_batch_start(batch, 0)
        return float(torch.rand(1))

    assert draw(task) == draw(task)
    assert draw(task) != draw(_Told(Settings(data="chest_xray", seed=4)))
