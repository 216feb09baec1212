"""Fixtures with a fake TorchServe that holds two versions of one model."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from radserve.host.run_directory import RunDirectory
from tests.radserve.fake_torchserve import Running, running
from tests.radserve.folders import prepared, two_versions


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return two_versions(tmp_path / "store")


@pytest.fixture
def run_directory(tmp_path: Path) -> RunDirectory:
    return prepared(tmp_path / "run")


@pytest.fixture
def torchserve(store: Path, run_directory: RunDirectory) -> Iterator[Running]:
    """A fake TorchServe with version 1.0.0 loaded."""
    with running(store, run_directory.management, "brightness-1.0.0.mar") as server:
        yield server
