"""Fixtures for tests of the client and the command line."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from radserve.client import Client
from radserve.client.control import Control
from tests.radserve.scripted import Scripted, scripted


@pytest.fixture
def odd() -> Iterator[Scripted]:
    """Run a server with a script; healthy unless the test changes the script."""
    with scripted() as server:
        yield server


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collect the pauses between attempts instead of waiting."""
    recorded: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", recorded.append)
    monkeypatch.setattr("stamina._core.random.uniform", lambda _low, _high: 0.0)  # no jitter
    return recorded


@pytest.fixture
def client(odd: Scripted, pauses: list[float]) -> Iterator[Client]:
    with Client(odd.url) as opened:
        yield opened


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    """Return the run directory of `api`."""
    folder = tmp_path / "radserve-run"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def api(run_directory: Path) -> Iterator[Scripted]:
    """Run a scripted control API on the socket of a run directory."""
    with scripted(run_directory / "control.sock") as server:
        yield server


@pytest.fixture
def control(api: Scripted, run_directory: Path, pauses: list[float]) -> Iterator[Control]:
    with Control.over_socket(run_directory / "control.sock") as opened:
        yield opened
