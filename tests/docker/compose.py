"""Helpers: tools that read docker/compose.yaml, and the script that creates its secrets."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.server import ROOT

DOCKER = ROOT / "docker"
COMPOSE = DOCKER / "compose.yaml"
PORTS = DOCKER / "compose.monitoring-ports.yaml"
ENVIRONMENT = dict(
    line.split("=", 1) for line in (DOCKER / ".env.example").read_text().splitlines() if line and line[0] != "#"
)


def tool(name: str) -> str:
    return str(Path(sys.executable).parent / name)


_READ: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 60, "cwd": ROOT}


def run(command: list[str], variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("RADSERVE", "COMPOSE"))}
    return subprocess.run(command, env=clean | dict(variables), check=False, **_READ)


def podman(variables: Mapping[str, str], *files: Path) -> subprocess.CompletedProcess[str]:
    # A dry run needs no podman.
    options = [part for file in (COMPOSE, *files) for part in ("--file", str(file))]
    return run([tool("podman-compose"), "--dry-run", "--env-file", "/dev/null", *options, "config"], variables)


def merged(variables: Mapping[str, str], *files: Path) -> dict[str, Any]:
    process = podman(ENVIRONMENT | dict(variables), *files)
    assert process.returncode == 0, process.stderr
    document: dict[str, Any] = yaml.safe_load(process.stdout)
    return document


def make(folder: Path, *hosts: str) -> subprocess.CompletedProcess[str]:
    variables = {"SECRETS": str(folder), "RADSERVE": tool("radserve")}
    return run([str(ROOT / "scripts" / "make-secrets"), *hosts], variables)
