"""What the tests of several homes share: the real kustomize, and how long an answer may take."""

from __future__ import annotations

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
    """Return the documents that a folder builds to."""
    done = attempt(folder)
    assert done.returncode == 0, done.stderr
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def attempt(folder: Path) -> subprocess.CompletedProcess[str]:
    """Build, whatever comes of it."""
    found = next((command for command in _BUILD if shutil.which(command[0])), None)
    if found is None:
        pytest.skip("needs kustomize or kubectl, which no package of Debian 12 or PyPI brings in this version")
    return subprocess.run([*found, str(folder)], capture_output=True, text=True, timeout=60, check=False)


def one(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return the only document of a kind."""
    (found,) = [item for item in documents if item["kind"] == kind]
    return found


def longest() -> float:
    """Return the seconds that the front waits for the slowest archive."""
    timeouts = [
        yaml.safe_load(path.read_text())["responseTimeout"] for path in ROOT.glob("archives/*/model-config.yaml")
    ]
    return float(max(timeouts)) + configuration.MARGIN
