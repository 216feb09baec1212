"""Tests of the serving benchmark."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import serving
from tests.conftest import ROOT
from tests.spots import packed


@pytest.fixture(scope="module")
def spots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spots")
    packed(folder / "store", folder)
    return folder / "store"


def bench(store: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.serving", "--model-store", str(store), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=400, check=False)


def short(store: Path, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return bench(store, "--seconds", "0.1", "--warm-up", "0", "--rounds", "1", "--json", str(out), *arguments)


@pytest.mark.e2e
def test_an_archive_is_measured_with_its_own_sample(spots: Path, tmp_path: Path) -> None:
    completed = short(spots, tmp_path / "figures.json")
    assert completed.returncode == 0, completed.stderr
    report = json.loads((tmp_path / "figures.json").read_bytes())["models"]["spots/1.0.0"]
    assert set(report["served"]) == set(report["ratio"]) == {"1", "8", "32"}
    for load in (*report["served"].values(), *report["in_process"].values()):
        assert load["rate"] > 0
        assert 0 < load["p50"] <= load["p95"] <= load["p99"]
    assert "| served, concurrency 32 |" in completed.stdout


@pytest.mark.e2e
def test_a_rejected_image_is_reported_without_results(spots: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_bytes(b"no image")
    completed = short(spots, tmp_path / "figures.json", "--images", f"spots={tmp_path}/*.png")
    assert completed.returncode == 1
    assert "NOT MEASURED" in completed.stdout
    report = json.loads((tmp_path / "figures.json").read_bytes())["models"]["spots/1.0.0"]
    assert set(report) == {"error"}
    assert "notes.png: status 415" in report["error"]


def failed(monkeypatch: pytest.MonkeyPatch, store: Path, *arguments: str) -> str:
    """Run the benchmark in this process; return the message with which it exits."""
    monkeypatch.setattr(sys, "argv", ["serving", "--model-store", str(store), *arguments])
    with pytest.raises(SystemExit) as error:
        serving.main()
    assert isinstance(error.value.code, str)
    return error.value.code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "brain"], "unknown model 'brain'"),
        (["--images", "brain=/"], "unknown model 'brain'. Available: spots"),
        (["--images", "nowhere/*.png"], "--images nowhere/*.png: no files found"),
    ],
)
def test_invalid_arguments_are_reported(
    spots: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    assert message in failed(monkeypatch, spots, *arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_cuda_device_nothing_is_measured(
    spots: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "found no CUDA device" in failed(monkeypatch, spots, "--device", "cuda")
    assert capsys.readouterr().out == ""
