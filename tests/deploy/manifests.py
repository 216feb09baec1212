"""Helpers for the tests of several platforms: kustomize, helm, and the longest timeout."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from radserve.proxy import configuration
from tests.server import ROOT

TOOLS = ROOT / ".venv-helm" / "bin"
"""Folder of helm and kubectl, which scripts/setup-helm creates."""


def build(folder: Path) -> list[dict[str, Any]]:
    """Build a folder and return its documents."""
    process = attempt(folder)
    assert process.returncode == 0, process.stderr
    return [item for item in yaml.safe_load_all(process.stdout) if item]


def attempt(folder: Path) -> subprocess.CompletedProcess[str]:
    """Build a folder and return the finished process."""
    return run("kubectl", "kustomize", str(folder))


def run(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run helm or kubectl and return the finished process."""
    assert (TOOLS / command).exists(), "run scripts/setup-helm"
    return subprocess.run([TOOLS / command, *arguments], capture_output=True, text=True, timeout=60, check=False)


def one(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return the only document of a kind."""
    (document,) = [item for item in documents if item["kind"] == kind]
    return document


def longest() -> float:
    """Return the seconds that nginx waits for the slowest archive."""
    timeouts = [yaml.safe_load(path.read_text())["responseTimeout"] for path in ROOT.glob("archives/*/torchserve.yaml")]
    return float(max(timeouts)) + configuration.MARGIN
