"""The README is true: its commands run, and what it shows is what happens."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.server import Server

README = (ROOT / "README.md").read_text(encoding="utf-8")
HERE = "http://127.0.0.1:8080"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def consoles() -> list[tuple[str, str]]:
    """Return each command that is shown with its output."""
    return [(block.partition("\n")[0].removeprefix("$ "), block.partition("\n")[2]) for block in blocks("console")]


def shell(command: str, server: Server) -> subprocess.CompletedProcess[str]:
    """Run a command of the README against the test's server."""
    command = command.replace("predict chest", f"predict --url {HERE} chest").replace(HERE, server.url)
    environment = os.environ | {"COLUMNS": "120", "TERM": "dumb"}
    words = ["bash", "-euo", "pipefail", "-c", command]
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False, env=environment)


@pytest.mark.e2e
def test_the_first_answer_is_the_one_that_is_shown(server: Server) -> None:
    command, shown = consoles()[0]
    found, wanted = json.loads(shell(command, server).stdout), json.loads(shown)
    assert list(found) == list(wanted)
    # The checksum moves with every change of the code that an archive carries; its index vouches for it.
    (entry,) = json.loads((server.store / "index.json").read_bytes())["archives"]
    assert found["model"] == {key: entry[key] for key in ("name", "version", "sha256")}
    assert found["image"] == wanted["image"]
    assert (found["label"], found["positive"], found["threshold"]) == (
        wanted["label"],
        wanted["positive"],
        wanted["threshold"],
    )
    for label, value in wanted["probabilities"].items():
        assert found["probabilities"][label] == pytest.approx(value, abs=0.001)


@pytest.mark.e2e
def test_the_table_is_the_one_that_is_shown(server: Server) -> None:
    command, shown = consoles()[1]
    done = shell(command, server)
    assert done.returncode == 0, done.stderr
    assert rows(done.stdout) == rows(shown)


def rows(table: str) -> list[str]:
    """Return the lines of a table but the one with the archive's checksum."""
    return [line.strip() for line in table.splitlines() if line.strip() and "sha256" not in line]


@pytest.mark.e2e
def test_the_shell_lines_for_requests_run(server: Server) -> None:
    (block,) = [block for block in blocks("sh") if "instances" in block]
    done = shell(block, server)
    assert done.returncode == 0, done.stderr
    assert '"predictions"' in done.stdout


@pytest.mark.e2e
def test_the_shell_lines_for_explanations_run(server: Server, tmp_path: Path) -> None:
    (block,) = [block for block in blocks("sh") if "/explanations/" in block]
    done = shell(block.replace("/tmp/overlay.png", str(tmp_path / "overlay.png")), server)
    assert done.returncode == 0, done.stderr
    assert '"grad-cam"' in done.stdout
    assert (tmp_path / "overlay.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.e2e
def test_the_python_lines_run(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = blocks("python")
    exec(compile(block.replace(HERE, server.url), "README.md", "exec"), {})
    assert capsys.readouterr().out.split()[2] == "1.0.0"


def test_the_commands_that_it_names_exist() -> None:
    for script in re.findall(r"scripts/[\w-]+", README):
        assert os.access(ROOT / script, os.X_OK), script
    for link in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (ROOT / link).exists(), link


SHOWN = {"auroc", "sensitivity", "specificity", "accuracy", "dice_patient", "dice_slice"}


@pytest.mark.parametrize("folder", sorted(path.parent for path in (ROOT / "archives").glob("*/archive.yaml")))
def test_its_figures_are_those_of_the_models(folder: Path) -> None:
    (row,) = [line for line in README.splitlines() if line.startswith(f"| [`{folder.name}`](archives/{folder.name}/")]
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
