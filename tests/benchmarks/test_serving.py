"""The benchmark runs, measures what it says, and refuses what it cannot measure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.spots import packed


@pytest.fixture(scope="module")
def spots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spots")
    packed(folder / "store", folder)
    return folder / "store"


def bench(store: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.serving", "--model-store", str(store), *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=400, check=False)


def short(store: Path, out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return bench(store, "--seconds", "0.1", "--warm-up", "0", "--rounds", "1", "--json", str(out), *words)


@pytest.mark.e2e
def test_an_archive_is_measured_with_its_own_sample(spots: Path, tmp_path: Path) -> None:
    done = short(spots, tmp_path / "figures.json")
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_bytes())["models"]["spots/1.0.0"]
    assert set(figures["served"]) == set(figures["ratio"]) == {"1", "8", "32"}
    for load in (*figures["served"].values(), *figures["in_process"].values()):
        assert load["rate"] > 0
        assert 0 < load["p50"] <= load["p95"] <= load["p99"]
    assert "| served, concurrency 32 |" in done.stdout


@pytest.mark.e2e
def test_a_refused_image_is_named_and_gives_no_figure(spots: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_bytes(b"no image")
    done = short(spots, tmp_path / "figures.json", "--images", f"spots={tmp_path}/*.png")
    assert done.returncode == 1
    assert "NOT MEASURED" in done.stdout
    figures = json.loads((tmp_path / "figures.json").read_bytes())["models"]["spots/1.0.0"]
    assert set(figures) == {"error"}
    assert "notes.png: answered 415" in figures["error"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--models", "brain"], "holds no 'brain'"),
        (["--images", "brain=/"], "'brain' is none of the models spots"),
        (["--images", "nowhere/*.png"], "--images nowhere/*.png: no file there"),
    ],
)
def test_what_cannot_be_measured_is_said(spots: Path, words: list[str], said: str) -> None:
    done = bench(spots, *words)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_cuda_device_nothing_is_measured(spots: Path) -> None:
    done = bench(spots, "--device", "cuda")
    assert (done.returncode, done.stdout) == (1, "")
    assert "finds no CUDA device" in done.stderr
