"""Helpers for the tests of several platforms: kustomize, and the longest timeout."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from radserve.proxy import configuration
from tests.server import ROOT

_BUILD = (("kustomize", "build"), ("kubectl", "kustomize"))


def build(folder: Path) -> list[dict[str, Any]]:
    """Build a folder and return its documents."""
    process = attempt(folder)
    assert process.returncode == 0, process.stderr
    return [item for item in yaml.safe_load_all(process.stdout) if item]


def attempt(folder: Path) -> subprocess.CompletedProcess[str]:
    """Build a folder and return the finished process."""
    command = next((item for item in _BUILD if shutil.which(item[0])), None)
    if command is None:
        pytest.skip("needs kustomize or kubectl, which neither Debian 12 nor PyPI has in this version")
    return subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=60, check=False)


def one(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return the only document of a kind."""
    (document,) = [item for item in documents if item["kind"] == kind]
    return document


def longest() -> float:
    """Return the seconds that nginx waits for the slowest archive."""
    timeouts = [yaml.safe_load(path.read_text())["responseTimeout"] for path in ROOT.glob("archives/*/torchserve.yaml")]
    return float(max(timeouts)) + configuration.MARGIN
