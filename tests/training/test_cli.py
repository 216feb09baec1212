import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from handlers import recipe as recipes
from training.cli import data_app, evaluate, train, tune

from .conftest import LENET, Trained

app = typer.Typer()
app.command()(train)

evaluate_app = typer.Typer()
evaluate_app.command()(evaluate)


def test_the_train_command_writes_a_result_folder(archive: Path, films: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["chest-xray-cnn", "--data", films, "--out", out, "--archives", archive.parent]
    arguments += ["--epochs", 1, "--seed", 5, "--set", "augmentation.noise=0"]
    completed = CliRunner().invoke(app, [str(part) for part in arguments])
    if completed.exception is not None:
        raise completed.exception
    assert recipes.load(out / "archive.yaml").name == "chest-xray-cnn"
    assert "seed: 5" in (out / "training.yaml").read_text()


def _words(trained: Trained, out: Path, *more: str) -> list[str]:
    arguments = ["cifar10-lenet", "--data", trained.data, "--out", out, "--archives", trained.folder.parent]
    return [*map(str, arguments), *(part for change in LENET for part in ("--set", change)), *more]


def test_the_reference_alone_is_installed_on_request(lenet: Trained, tmp_path: Path) -> None:
    mine = lenet.copy(tmp_path)
    path = mine.folder / "metrics.json"
    released = json.loads(path.read_text())
    path.write_text(json.dumps(released | {"reference": None}))
    completed = CliRunner().invoke(evaluate_app, _words(mine, tmp_path / "result", "--reference", "--install"))
    assert completed.exit_code == 0, completed.output
    assert json.loads(path.read_text()) == released


@pytest.mark.parametrize("option", [("--part", "all"), ("--ood",), ("--weights", "w"), ("--external", "name", "dir")])
def test_the_reference_is_measured_alone(lenet: Trained, tmp_path: Path, option: tuple[str, ...]) -> None:
    completed = CliRunner().invoke(evaluate_app, _words(lenet, tmp_path, "--reference", *option))
    assert completed.exit_code == 2
    assert "--reference excludes" in completed.output


def test_a_detector_is_not_measured_with_other_weights(lenet: Trained, tmp_path: Path) -> None:
    completed = CliRunner().invoke(evaluate_app, _words(lenet, tmp_path, "--ood", "--weights", "w"))
    assert completed.exit_code == 2
    assert "--ood measures the detector of the installed weights" in " ".join(completed.output.split())


def test_an_evaluation_is_installed_on_request(lenet: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["radserve", "evaluate", "cifar10-lenet"])
    mine, out = lenet.copy(tmp_path), tmp_path / "evaluation"
    before = json.loads((mine.folder / "metrics.json").read_text())
    completed = CliRunner().invoke(evaluate_app, _words(mine, out, "--install"))
    if completed.exception is not None:
        raise completed.exception
    after = json.loads((mine.folder / "metrics.json").read_text())
    assert after["validation"] == before["validation"]
    assert after["command"] == "radserve evaluate cifar10-lenet"


@pytest.mark.parametrize("command", [train, tune, evaluate], ids=lambda command: command.__name__)
def test_every_command_has_the_shared_options(command: object) -> None:
    shared = typer.Typer()
    shared.command()(command)  # type: ignore[type-var]
    output = CliRunner().invoke(shared, ["--help"], env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}).output
    for option in ("--data", "--out", "--seed", "--set", "--install", "--threads", "--archives"):
        assert option in output


@pytest.mark.parametrize("command", ["train", "tune", "evaluate", "fit-detector", "calibrate"])
def test_a_wrong_folder_is_reported_before_torch_is_imported(command: str, tmp_path: Path) -> None:
    code = "import sys; from radserve.cli.main import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    arguments = [command, "chest-xray-cnn", "--data", str(tmp_path / "nothing")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "False\n")
    assert "nothing: folder not found." in done.stderr


def test_describe_is_a_subcommand_of_data(films: Path) -> None:
    completed = CliRunner().invoke(data_app, ["describe", str(films)])
    assert completed.exit_code == 0, completed.output
    assert "label" in completed.output
