"""SageMaker's contract for training containers: the configuration, and whole jobs with another folder than /opt/ml."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from radserve.build import mar
from radserve.build import model_store as store_index
from radserve.cli.sagemaker import prepare_store
from radserve.deploy.training_job import METRICS
from tests import command_line
from training import container
from training.container import Job
from training.errors import JobError

from .conftest import ROOT, copy_archive

pytestmark = pytest.mark.slow

QUICK = {"epochs": "12", "batch": "20", "average": "0.8", "validation": "0.2"}
MODEL = "cifar10-lenet"


def make_root(
    root: Path, values: Mapping[str, str], data: Path | None = None, channels: tuple[str, ...] = ("training",)
) -> Path:
    """Write the configuration of a job as SageMaker does."""
    config = root / "input" / "config"
    config.mkdir(parents=True)
    documents: dict[str, Any] = {
        "hyperparameters": values,
        "inputdataconfig": {name: {"TrainingInputMode": "File"} for name in channels},
        "resourceconfig": {"current_host": "algo-1", "hosts": ["algo-1"]},
    }
    for name, document in documents.items():
        (config / f"{name}.json").write_text(json.dumps(document))
    (root / "model").mkdir()
    if data is not None:
        (root / "input" / "data").mkdir()
        (root / "input" / "data" / "training").symlink_to(data)
    return root


def _change(root: Path, file: str, document: object) -> None:
    (root / "input" / "config" / f"{file}.json").write_text(json.dumps(document))


def test_hyperparameters_become_settings(tmp_path: Path) -> None:
    values = {
        "model": '"chest"',  # as SageMaker's SDK writes it
        "version": "1.1.0",
        "epochs": "3",
        "augmentation.rotation": "4",
        "sagemaker_region": '"eu-central-1"',
        "_tuning_objective_metric": "score",
    }
    root = make_root(tmp_path, values, channels=("films", "recipe"))
    data = root / "input" / "data"
    overrides = ("augmentation.rotation=4", "epochs=3")
    assert container.read(root) == Job("chest", data / "films", data / "recipe", "1.1.0", None, None, overrides)


def test_an_invalid_configuration_is_named(tmp_path: Path) -> None:
    root = make_root(tmp_path, {"model": "chest", "trials": "many"})
    with pytest.raises(JobError, match=r"trials has value 'many'"):
        container.read(root)
    _change(root, "hyperparameters", {"model": "chest", "version": '"1.1'})
    with pytest.raises(JobError, match=r'version has value \'"1\.1\'; invalid YAML'):
        container.read(root)
    _change(root, "hyperparameters", {})
    with pytest.raises(JobError, match="'model' is missing"):
        container.read(root)
    _change(root, "hyperparameters", {"model": "chest"})
    for channels, text in (
        ({}, "0 channels with data"),
        ({"a": {}, "b": {}}, "2 channels with data"),
        ({"a": {"TrainingInputMode": "Pipe"}}, "channel a: input mode Pipe is not supported"),
    ):
        _change(root, "inputdataconfig", channels)
        with pytest.raises(JobError, match=text):
            container.read(root)
    _change(root, "resourceconfig", {"hosts": ["algo-1", "algo-2"]})
    with pytest.raises(JobError, match="2 instances"):
        container.read(root)
    (root / "input" / "config" / "resourceconfig.json").write_text("{")
    with pytest.raises(JobError, match=r"resourceconfig\.json: invalid JSON"):
        container.read(root)


def test_checkpoints_that_do_not_belong_together_are_not_resumed(tmp_path: Path) -> None:
    for name in ("training.yaml", "command.txt", "training_images.txt"):
        (tmp_path / name).touch()
    table = tmp_path / "epochs.csv"
    table.write_text("epoch,loss\n" + "".join(f"{epoch},0.5\n" for epoch in range(4)))

    def save(best: tuple[int, float], last: tuple[int, float]) -> None:
        for name, (epoch, score) in (("best.ckpt", best), ("last.ckpt", last)):
            state = {"monitor": "score", "best_model_score": torch.tensor(score)}
            torch.save({"epoch": epoch, "callbacks": {"Checkpoint": state, "Other": {}}}, tmp_path / name)

    save((1, 0.5), (3, 0.5))
    assert container.can_resume(tmp_path)
    save((3, 0.7), (2, 0.5))  # the best one of an epoch that will be repeated
    assert container.can_resume(tmp_path)
    save((1, 0.5), (3, 0.7))
    assert not container.can_resume(tmp_path)
    assert not list(tmp_path.glob("*.ckpt"))
    save((1, 0.5), (3, 0.5))
    (tmp_path / "last.ckpt").write_bytes((tmp_path / "last.ckpt").read_bytes()[:100])
    assert not container.can_resume(tmp_path)
    for rows in ("epoch,loss\n0,0.5\n1,0.5\n2,0.5\n", "epoch,loss\n0,0.5\n1,0.5\n2,0.5\n3", "", "\0"):
        save((1, 0.5), (3, 0.5))
        table.write_text(rows)
        assert not container.can_resume(tmp_path)


def test_a_gpu_without_cuda_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.MonkeyPatch.context() as patch, caplog.at_level("INFO"):
        patch.setattr("torch.cuda.is_available", lambda: False)
        container.log_device(tmp_path)
        assert [record.levelname for record in caplog.records] == ["INFO"]
        assert "training on the CPU" in caplog.text
        (tmp_path / "version").touch()
        container.log_device(tmp_path)
    assert caplog.records[-1].levelname == "WARNING"
    assert "has an NVIDIA GPU, but CUDA is unavailable" in caplog.text


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    """Recipes of the image; the runtime of torch saves the conversion to ONNX."""
    folder = copy_archive(tmp_path / "archives", MODEL)
    recipe = yaml.safe_load((folder / "archive.yaml").read_text())
    del recipe["runtime"]
    (folder / "archive.yaml").write_text(yaml.safe_dump(recipe))
    return folder.parent


@pytest.fixture(autouse=True)
def _signal_handler() -> Iterator[None]:
    """Restore the handler that a job in this process replaces."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def run(root: Path, archives: Path) -> "subprocess.CompletedProcess[str]":
    """Run a job in this process."""
    return command_line.run(
        "sagemaker-train", "--archives", archives, environment=os.environ | {"SAGEMAKER_BASE_DIR": str(root)}
    )


def _wait_for_epochs(root: Path, count: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 300
    file = root / "checkpoints" / "epochs.csv"
    while not file.exists() or len(file.read_text().splitlines()) <= count:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_job_that_is_interrupted_and_resumed_has_the_same_result(
    archives: Path, photographs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parameters = {"model": MODEL, "version": "2.1.0", **QUICK}
    whole, broken = (make_root(tmp_path / name, parameters, photographs) for name in ("whole", "broken"))
    with caplog.at_level("INFO"):
        done = run(whole, archives)
    assert done.returncode == 0, done.stderr
    assert not (whole / "output" / "failure").exists()
    for name, expression in METRICS.items():
        values = [float(match[1]) for record in caplog.messages if (match := re.search(expression, record))]
        assert len(values) == 12, name

    # As the image does, where the packages are in its folder.
    entry_point = [sys.executable, str(ROOT / "docker" / "radserve"), "train"]
    environment = os.environ | {"SAGEMAKER_BASE_DIR": str(broken), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(ROOT)
    with subprocess.Popen(
        entry_point, cwd=archives.parent, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        _wait_for_epochs(broken, 2, process)
        process.terminate()
        _, log = process.communicate(timeout=60)
    assert process.returncode == 143, log
    assert not list((broken / "model").iterdir())
    assert not (broken / "output" / "failure").exists()
    # SageMaker starts a new instance and restores only the checkpoints.
    resumed = make_root(tmp_path / "resumed", parameters, photographs)
    shutil.copytree(broken / "checkpoints", resumed / "checkpoints")
    caplog.clear()
    with caplog.at_level("INFO"):
        done = run(resumed, archives)
    assert done.returncode == 0, done.stderr
    assert "resuming from" in caplog.text
    assert not [message for message in caplog.messages if message.startswith("epoch 1 of")]

    files = [
        {path.relative_to(root / "model"): path.read_bytes() for path in (root / "model").rglob("*") if path.is_file()}
        for root in (whole, resumed)
    ]
    assert files[0] == files[1]
    (entry,) = store_index.read(resumed / "model").archives
    assert (entry.name, entry.version) == (MODEL, "2.1.0")
    mar.verify(entry, resumed / "model")
    scratch = tmp_path / "endpoint"
    scratch.mkdir()
    assert prepare_store(resumed / "model", scratch) == entry
    metrics = json.loads((resumed / "model" / MODEL / "metrics.json").read_text())
    assert metrics["command"].startswith(f"radserve train {MODEL} --data DIR --set 'average=0.8'")


def test_a_job_that_fails_says_why(archives: Path, photographs: Path, tmp_path: Path) -> None:
    for number, (parameters, reason) in enumerate(
        (
            (
                {"model": "chest"},
                f"JobError: model 'chest': {archives}/chest/archive.yaml not found. Available: {MODEL}.",
            ),
            ({"model": MODEL, "epoch": "3"}, "unknown key 'epoch'"),
        )
    ):
        root = make_root(tmp_path / str(number), parameters, photographs)
        assert run(root, archives).returncode == 1
        assert reason in (root / "output" / "failure").read_text()
        assert not list((root / "model").iterdir())


def test_a_search_writes_the_best_settings(archives: Path, photographs: Path, tmp_path: Path) -> None:
    values = QUICK | {"epochs": "1", "tune": "{learning_rate: {low: 0.001, high: 0.01}}"}
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    root = make_root(tmp_path / "job", values | {"model": MODEL, "trials": "2", "storage": storage}, photographs)
    done = run(root, archives)
    assert done.returncode == 0, done.stderr
    best = yaml.safe_load((root / "model" / "training.yaml").read_text())
    assert 0.001 <= best["learning_rate"] <= 0.01
    assert (root / "model" / "plots" / "optimization_history.png").is_file()
