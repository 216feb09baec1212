"""The README and the first pages of docs/ are true: their commands run and give what they show."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.server import Server, running

README = (ROOT / "README.md").read_text(encoding="utf-8")
API = (ROOT / "docs" / "http-api.md").read_text(encoding="utf-8")
CLIENT = (ROOT / "docs" / "python-client.md").read_text(encoding="utf-8")
MODELS = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
HERE = "http://127.0.0.1:8080"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def consoles() -> list[tuple[str, str]]:
    """Return each command with the output that the README shows."""
    parts = [block.partition("\n") for block in blocks(README, "console")]
    return [(command.removeprefix("$ "), output) for command, _, output in parts]


def shell(command: str, server: Server) -> subprocess.CompletedProcess[str]:
    """Run a command of the README against the test's server."""
    command = command.replace("predict chest", f"predict --url {HERE} chest").replace(HERE, server.url)
    environment = os.environ | {"COLUMNS": "120", "TERM": "dumb"}
    arguments = ["bash", "-euo", "pipefail", "-c", command]
    return subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False, env=environment)


@pytest.fixture(scope="module")
def server(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server as the README starts it: images are compared with the training images."""
    with running(store, tmp_path_factory.mktemp("server") / "log", "--domain", "strict") as started:
        yield started


@pytest.mark.e2e
def test_the_first_prediction_matches_the_readme(server: Server) -> None:
    command, shown = consoles()[0]
    response, expected = json.loads(shell(command, server).stdout), json.loads(shown)
    assert list(response) == list(expected)
    # The checksum moves with every change of the code that an archive carries; its index vouches for it.
    (entry,) = json.loads((server.store / "index.json").read_bytes())["archives"]
    assert response["model"] == {key: entry[key] for key in ("name", "version", "sha256")}
    assert response["image"] == expected["image"]
    assert response["domain"]["status"] == expected["domain"]["status"] == "normal"
    assert (response["label"], response["positive"], response["threshold"]) == (
        expected["label"],
        expected["positive"],
        expected["threshold"],
    )
    for label, value in expected["probabilities"].items():
        assert response["probabilities"][label] == pytest.approx(value, abs=0.001)


@pytest.mark.e2e
def test_the_table_matches_the_readme(server: Server) -> None:
    command, shown = consoles()[1]
    in_terminal = shlex.quote(f"stty columns 120; TERM=xterm {command}")
    done = shell(f"script --quiet --return --command {in_terminal} /dev/null", server)
    assert done.returncode == 0, done.stdout
    assert rows(done.stdout) == rows(shown)


def rows(table: str) -> list[str]:
    """Return the lines of a table but the one with the archive's checksum."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", table)
    return [line.strip() for line in plain.splitlines() if line.strip() and "sha256" not in line]


@pytest.mark.e2e
def test_the_request_examples_run(server: Server) -> None:
    (block,) = [block for block in blocks(API, "sh") if "instances" in block]
    done = shell(block, server)
    assert done.returncode == 0, done.stderr
    assert '"predictions"' in done.stdout


@pytest.mark.e2e
def test_the_explanation_examples_run(server: Server, tmp_path: Path) -> None:
    (block,) = [block for block in blocks(API, "sh") if "/explanations/" in block]
    done = shell(block.replace("/tmp/overlay.png", str(tmp_path / "overlay.png")), server)
    assert done.returncode == 0, done.stderr
    assert '"grad-cam"' in done.stdout
    assert (tmp_path / "overlay.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.e2e
@pytest.mark.parametrize("page", [README, CLIENT], ids=["README", "python-client"])
def test_the_python_example_runs(page: str, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    block = blocks(page, "python")[0]
    exec(compile(block.replace(HERE, server.url), "example.py", "exec"), {})
    assert capsys.readouterr().out == "pneumonia; pneumonia 99.7%, cut-off 49.3%; 1.0.0\n"


@pytest.mark.e2e
def test_the_asynchronous_example_runs(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    _, block = blocks(CLIENT, "python")
    exec(compile(block.replace(HERE, server.url), "example.py", "exec"), {})
    assert capsys.readouterr().out == f"{['pneumonia'] * 4}\n"


def test_the_scripts_and_links_of_the_readme_exist() -> None:
    for script in re.findall(r"scripts/[\w-]+", README):
        assert os.access(ROOT / script, os.X_OK), script
    for link in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (ROOT / link).exists(), link


SHOWN = {"auroc", "sensitivity", "specificity", "accuracy", "dice_patient", "dice_slice"}


@pytest.mark.parametrize("folder", sorted(path.parent for path in (ROOT / "archives").glob("*/archive.yaml")))
def test_the_table_of_models_matches_their_metrics(folder: Path) -> None:
    start = f"| [`{folder.name}`](../archives/{folder.name}/"
    (row,) = [line for line in MODELS.splitlines() if line.startswith(start)]
    report = json.loads((folder / "metrics.json").read_bytes())
    if report["demonstration"]:
        assert "not shipped" in row
        return
    for key, figure in report["validation"].items():
        low, high = figure["ci95"]
        assert key not in SHOWN or f"{figure['value']:.3f} ({low:.3f} to {high:.3f})" in row, key


def test_nothing_names_a_machine() -> None:
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False).stdout.split()
    for name in tracked:
        path = Path(ROOT / name)
        if path.suffix in {".py", ".md", ".yaml", ".json", ".toml", ".properties", ""} and path.is_file():
            assert "/work" + "/" not in path.read_text(encoding="utf-8"), name


def test_the_readme_is_below_8_kb() -> None:
    assert len(README.encode()) < 8_000
