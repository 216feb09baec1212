"""What tests of the client share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from radserve.client import Client
from radserve.client.control import Control
from tests.radserve.scripted import Scripted, scripted


@pytest.fixture
def odd() -> Iterator[Scripted]:
    """Run a server that does as a test tells it; healthy until told otherwise."""
    with scripted() as server:
        yield server


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collect the pauses between attempts instead of making them."""
    made: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", made.append)
    monkeypatch.setattr("stamina._core.random.uniform", lambda _low, _high: 0.0)  # no jitter
    return made


@pytest.fixture
def client(odd: Scripted, pauses: list[float]) -> Iterator[Client]:
    with Client(odd.url) as opened:
        yield opened


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    """Hold the run_directory folder of `api`."""
    folder = tmp_path / "radserve-run"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def api(run_directory: Path) -> Iterator[Scripted]:
    """Run a control API on the socket of a run_directory folder."""
    with scripted(run_directory / "control.sock") as server:
        yield server


@pytest.fixture
def control(api: Scripted, run_directory: Path, pauses: list[float]) -> Iterator[Control]:
    with Control.over_socket(run_directory / "control.sock") as opened:
        yield opened
