from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from handlers import recipe as recipes
from training.cli import evaluate, train, tune
from training.errors import RunError, SettingsError

from .conftest import LENET, Trained

app = typer.Typer()
app.command()(train)

measuring = typer.Typer()
measuring.command()(evaluate)


def test_one_command_trains_into_a_result_folder(archive: Path, films: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["chest-xray-cnn", "--data", films, "--out", out, "--archives", archive.parent]
    words += ["--epochs", 1, "--seed", 5, "--set", "augmentation.noise=0"]
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None:
        raise done.exception
    assert recipes.load(out / "archive.yaml").name == "chest-xray-cnn"
    assert "seed: 5" in (out / "training.yaml").read_text()


def test_a_wrong_setting_is_an_error_of_ours(archive: Path, films: Path, tmp_path: Path) -> None:
    words = ["chest-xray-cnn", "--data", films, "--out", tmp_path / "out", "--archives", archive.parent, "--set", "a=1"]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(done.exception, SettingsError)


def _words(trained: Trained, out: Path, *more: str) -> list[str]:
    words = ["cifar10-lenet", "--data", trained.data, "--out", out, "--archives", trained.folder.parent]
    return [*map(str, words), *(word for change in LENET for word in ("--set", change)), *more]


def test_an_evaluation_is_installed_where_it_is_asked_for(
    lenet: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["radserve", "evaluate", "cifar10-lenet"])
    mine, out = lenet.copy(tmp_path), tmp_path / "evaluation"
    before = json.loads((mine.folder / "metrics.json").read_text())
    done = CliRunner().invoke(measuring, _words(mine, out, "--install"))
    if done.exception is not None:
        raise done.exception
    after = json.loads((mine.folder / "metrics.json").read_text())
    assert after["validation"] == before["validation"]
    assert after["command"] == "radserve evaluate cifar10-lenet"


def test_an_evaluation_of_another_split_is_an_error_of_ours(lenet: Trained, tmp_path: Path) -> None:
    done = CliRunner().invoke(measuring, _words(lenet, tmp_path / "evaluation", "--seed", "7"))
    assert isinstance(done.exception, RunError)


@pytest.mark.parametrize("command", [train, tune, evaluate], ids=lambda command: command.__name__)
def test_every_command_takes_the_options_that_they_share(command: object) -> None:
    shown = typer.Typer()
    shown.command()(command)  # type: ignore[type-var]
    told = CliRunner().invoke(shown, ["--help"], env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}).output
    for option in ("--data", "--out", "--seed", "--set", "--install", "--threads", "--archives"):
        assert option in told
