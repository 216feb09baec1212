import csv
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from training.epoch_log import EpochLog


class _Trainer:
    """The part of Lightning's trainer that the log uses."""

    def __init__(self, epoch: int, **figures: float) -> None:
        self.current_epoch, self.max_epochs = epoch, 9
        self.callback_metrics = {key: torch.tensor(value) for key, value in figures.items()}


def _epoch(log: EpochLog, epoch: int, dice: float) -> None:
    trainer: Any = _Trainer(epoch, train_loss=0.5, loss=0.25, dice=dice, score=dice - 0.01)
    log.on_train_epoch_start(trainer, None)  # type: ignore[arg-type]
    log.on_train_epoch_end(trainer, None)  # type: ignore[arg-type]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_epoch_is_a_row_with_the_watched_metric(tmp_path: Path) -> None:
    log = EpochLog(tmp_path / "epochs.csv", "dice")
    for epoch, dice in enumerate((0.5, 0.75)):
        _epoch(log, epoch, dice)
    rows = _rows(tmp_path / "epochs.csv")
    assert [(row["epoch"], row["dice"]) for row in rows] == [("0", "0.5"), ("1", "0.75")]
    assert list(rows[0]) == ["epoch", "train_loss", "loss", "dice", "score", "seconds"]


def test_a_resumed_run_replaces_repeated_rows_and_keeps_earlier_ones(tmp_path: Path) -> None:
    first = EpochLog(tmp_path / "epochs.csv", "dice")
    for epoch in range(3):
        _epoch(first, epoch, 0.5)
    resumed = EpochLog(tmp_path / "epochs.csv", "dice")
    resumed.on_train_start(_Trainer(2), None)  # type: ignore[arg-type]
    _epoch(resumed, 2, 0.9)
    assert [(row["epoch"], row["dice"]) for row in _rows(tmp_path / "epochs.csv")] == [
        ("0", "0.5"),
        ("1", "0.5"),
        ("2", "0.9"),
    ]


def test_the_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "epochs.csv"
    log = EpochLog(path, "dice")
    _epoch(log, 0, 0.5)
    with path.open() as before:
        _epoch(log, 1, 0.5)
        assert len(before.readlines()) == 2
    assert list(tmp_path.iterdir()) == [path]


def test_the_log_names_the_metric(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="training.epoch_log"):
        _epoch(EpochLog(tmp_path / "epochs.csv", "dice"), 3, 0.75)
    assert "epoch 4 of 9" in caplog.text
    assert "dice 0.7500" in caplog.text
