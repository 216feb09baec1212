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
TRACKERS = ("wandb", "mlflow")
BOTH = f"""
import sys
from radserve.__main__ import main

folder, *words = sys.argv[1:]
for tracker in {TRACKERS}:
    sys.argv[1:] = [*words, "--out", f"{{folder}}/{{tracker}}", "--tracker", tracker]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""
NOWHERE = "http://127.0.0.1:9"
"""A proxy that does not exist, so that network access fails."""


@pytest.fixture(scope="module")
def out(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train with each tracker in a folder of its name, by the command line and without network access.

    Both run in one process, because its imports take longer than the training.
    """
    for library in TRACKERS:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"needs {library}, which the group `track` installs")
    folder = tmp_path_factory.mktemp("tracked")
    arguments = ["train", "cifar10-lenet", "--data", str(photographs), "--threads", "1"]
    arguments += ["--archives", str(copy_archive(folder / "archives", "cifar10-lenet").parent)]
    arguments += [part for change in QUICK for part in ("--set", change)]
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "MLFLOW"))}
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), NOWHERE)
    home = {"HOME": str(folder / "home"), "CUDA_VISIBLE_DEVICES": ""}
    completed = subprocess.run(
        [sys.executable, "-c", BOTH, str(folder), *arguments],
        cwd=ROOT,
        env=kept | proxies | home,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    return folder


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


def test_weights_and_biases_works_offline_in_the_result_folder(out: Path) -> None:
    (kept,) = (out / "wandb" / "wandb").glob("offline-run-*/run-*.wandb")
    content = kept.read_bytes()
    assert b"train_loss" in content
    assert b"accuracy" in content
    assert (out / "wandb" / "metrics.json").is_file()


def test_mlflow_works_offline_in_the_result_folder(out: Path) -> None:
    with sqlite3.connect(out / "mlflow" / "mlflow.db") as database:
        result = dict(database.execute("SELECT key, COUNT(*) FROM metrics GROUP BY key").fetchall())
        names = [row[0] for row in database.execute("SELECT name FROM experiments").fetchall()]
    database.close()
    assert result["loss"] == result["accuracy"] == 2
    assert "cifar10-lenet" in names
    assert (out / "mlflow" / "metrics.json").is_file()
