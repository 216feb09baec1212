from collections import OrderedDict

import pytest
import torch
from torch import nn

from training.batches import Batch
from training.lightning_modules.base import Task
from training.settings import Settings


class _FixedMetric(Task):
    """Task with a given value of the metric."""

    watched = "metric"

    def __init__(self, settings: Settings, value: float = 0.0) -> None:
        layers = {"conv": nn.Conv2d(1, 2, 1), "norm": nn.BatchNorm2d(2), "drop": nn.Dropout(0.5)}
        super().__init__(nn.Sequential(OrderedDict(layers)), settings)
        self.value = value
        self.logged: dict[str, float] = {}

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (logits - targets).abs().mean()

    def update_metric(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self.loss(logits, targets)

    def compute_metric(self) -> torch.Tensor:
        return torch.tensor(self.value)

    def log(self, name: str, value: object, **_: object) -> None:  # type: ignore[override]
        assert isinstance(value, torch.Tensor)
        self.logged[name] = float(value)

    def score(self, value: float, loss: float) -> float:
        """Return the score of an epoch with this metric and loss."""
        self.value = value
        self.validation_loss.update(torch.tensor(loss))
        self.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
        self.on_validation_epoch_end()
        return self.logged["score"]


@pytest.fixture
def task() -> _FixedMetric:
    return _FixedMetric(Settings(data="chest_xray", seed=3))


def test_a_better_metric_wins_regardless_of_the_loss(task: _FixedMetric) -> None:
    assert task.score(0.902, loss=4.0) > task.score(0.901, loss=0.01)


def test_the_lower_loss_wins_among_metrics_equal_to_three_digits(task: _FixedMetric) -> None:
    assert task.score(0.9012, loss=0.2) > task.score(0.9014, loss=0.3)


def test_a_huge_loss_does_not_outweigh_the_metric(task: _FixedMetric) -> None:
    assert task.score(0.902, loss=1e9) > task.score(0.901, loss=0.01)


def test_the_loss_is_reset_after_each_epoch(task: _FixedMetric) -> None:
    task.score(0.9, loss=5.0)
    assert task.score(0.9, loss=0.0) == pytest.approx(0.9)


def test_settings_override_the_dropout_of_the_network() -> None:
    assert _FixedMetric(Settings(data="chest_xray")).network.drop.p == 0.5
    for share in (0.0, 0.3):
        assert _FixedMetric(Settings(data="chest_xray", dropout=share)).network.drop.p == share


def test_dropout_depends_only_on_seed_and_step(task: _FixedMetric) -> None:
    batch: Batch = (torch.zeros(1), torch.zeros(1))

    def draw(variant: Task) -> float:
        torch.rand(7)
        variant.on_train_batch_start(batch, 0)
        return float(torch.rand(1))

    assert draw(task) == draw(task)
    assert draw(task) != draw(_FixedMetric(Settings(data="chest_xray", seed=4)))
