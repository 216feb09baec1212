"""What a run says of each epoch: a line for people, a row for programs."""

from __future__ import annotations

import csv
import logging
import time
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

_log = logging.getLogger(__name__)


class Journal(Callback):
    """Append every epoch to a CSV file and log it.

    Parameters
    ----------
    path
        Of the CSV file. Rows of epochs that a resumed run repeats are replaced.
    watched
        Name of the figure that decides which epoch is kept.
    """

    def __init__(self, path: Path, watched: str) -> None:
        self._path, self._watched = path, watched
        self._figures = ("train_loss", "loss", watched, "score")
        self._rows: list[dict[str, Any]] = []
        self._since = time.monotonic()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Keep what an interrupted run wrote."""
        del pl_module
        if self._path.exists():
            with self._path.open(newline="", encoding="utf-8") as file:
                self._rows = [row for row in csv.DictReader(file) if int(row["epoch"]) < trainer.current_epoch]

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        del trainer, pl_module
        self._since = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the epoch down."""
        del pl_module
        row: dict[str, Any] = {"epoch": trainer.current_epoch}
        row |= {key: round(float(trainer.callback_metrics[key]), 6) for key in self._figures}
        row["seconds"] = round(time.monotonic() - self._since, 1)
        self._rows.append(row)
        with self._path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerows(self._rows)
        _log.info(
            "epoch %d of %s: training loss %.4f, validation loss %.4f, %s %.4f (%.0f s)",
            row["epoch"] + 1,
            trainer.max_epochs,
            row["train_loss"],
            row["loss"],
            self._watched,
            row[self._watched],
            row["seconds"],
        )
