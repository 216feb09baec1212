from __future__ import annotations

from pathlib import Path

import typer
from typer.testing import CliRunner

from handlers import recipe as recipes
from training.cli import train
from training.errors import SettingsError

app = typer.Typer()
app.command()(train)


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
