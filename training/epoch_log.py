"""Log of a training run: one log message and one CSV row per epoch."""

import csv
import logging
import time
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

_log = logging.getLogger(__name__)


class EpochLog(Callback):
    """Writes every epoch to a CSV file and logs it; `watched` is the metric that selects the best epoch.

    Lightning's `CSVLogger` does not replace the rows of epochs that a resumed run repeats.
    """

    def __init__(self, path: Path, watched: str) -> None:
        self._path, self._watched = path, watched
        self._columns = ("train_loss", "loss", watched, "score")
        self._rows: list[dict[str, Any]] = []
        self._start = time.monotonic()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Load the rows of an interrupted run."""
        del pl_module
        if self._path.exists():
            with self._path.open(newline="", encoding="utf-8") as file:
                self._rows = [row for row in csv.DictReader(file) if int(row["epoch"]) < trainer.current_epoch]

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the timer."""
        del trainer, pl_module
        self._start = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the epoch."""
        del pl_module
        row: dict[str, Any] = {"epoch": trainer.current_epoch}
        row |= {key: round(float(trainer.callback_metrics[key]), 6) for key in self._columns}
        row["seconds"] = round(time.monotonic() - self._start, 1)
        self._rows.append(row)
        # In one step, because a job in the cloud may be killed, or copy the file, at any time.
        temporary = self._path.with_suffix(".part")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerows(self._rows)
        temporary.replace(self._path)
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
