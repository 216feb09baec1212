"""Tests of experiment trackers; Weights & Biases and MLflow run in child processes, because they start threads."""

import importlib.util
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from training.train import Options, train

from .conftest import ROOT, Trained, copy_archive

pytestmark = pytest.mark.slow

QUICK = ("epochs=2", "batch=20", "average=0.5", "validation=0.2")
NOWHERE = "http://127.0.0.1:9"
"""A proxy that does not exist, so that network access fails."""


def _run(tracker: str, photographs: Path, tmp_path: Path) -> tuple[Path, str]:
    """Train with the command line tool, without network access."""
    out = tmp_path / "out"
    arguments = [sys.executable, "-m", "radserve", "train", "cifar10-lenet", "--data", str(photographs)]
    arguments += ["--archives", str(copy_archive(tmp_path / "archives", "cifar10-lenet").parent), "--out", str(out)]
    arguments += ["--tracker", tracker, "--threads", "1", *(part for change in QUICK for part in ("--set", change))]
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "MLFLOW"))}
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), NOWHERE)
    home = {"HOME": str(tmp_path / "home"), "CUDA_VISIBLE_DEVICES": ""}
    completed = subprocess.run(
        arguments, cwd=ROOT, env=kept | proxies | home, capture_output=True, text=True, timeout=300, check=False
    )
    assert completed.returncode == 0, completed.stderr
    return out, completed.stderr


def _needs(library: str) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"needs {library}, which the group `track` installs")


def test_tensorboard_is_the_default_tracker(lenet: Trained) -> None:
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    events = EventAccumulator(str(lenet.out / "tensorboard"))
    events.Reload()
    assert {"train_loss", "loss", "accuracy", "score"} <= set(events.Tags()["scalars"])
    losses = [event.value for event in events.Scalars("loss")]
    assert len(losses) == 8
    assert losses[-1] < losses[0]


def test_without_a_tracker_nothing_is_written(photographs: Path, tmp_path: Path) -> None:
    folder = copy_archive(tmp_path / "archives", "cifar10-lenet")
    train(folder, photographs, tmp_path / "out", Options(overrides=QUICK, progress=False, tracker="none"))
    result = {path.name for path in (tmp_path / "out").iterdir()}
    assert not result & {"tensorboard", "wandb", "mlflow", "mlflow.db", "lightning_logs"}


def test_weights_and_biases_works_offline_in_the_result_folder(photographs: Path, tmp_path: Path) -> None:
    _needs("wandb")
    out, _ = _run("wandb", photographs, tmp_path)
    (kept,) = (out / "wandb").glob("offline-run-*/run-*.wandb")
    content = kept.read_bytes()
    assert b"train_loss" in content
    assert b"accuracy" in content
    assert (out / "metrics.json").is_file()


def test_mlflow_works_offline_in_the_result_folder(photographs: Path, tmp_path: Path) -> None:
    _needs("mlflow")
    out, _ = _run("mlflow", photographs, tmp_path)
    with sqlite3.connect(out / "mlflow.db") as database:
        result = dict(database.execute("SELECT key, COUNT(*) FROM metrics GROUP BY key").fetchall())
        names = [row[0] for row in database.execute("SELECT name FROM experiments").fetchall()]
    database.close()
    assert result["loss"] == result["accuracy"] == 2
    assert "cifar10-lenet" in names
    assert (out / "metrics.json").is_file()
