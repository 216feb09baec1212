"""Fixtures with a fake TorchServe that holds two versions of one model."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from radserve.host.run_directory import RunDirectory
from tests.radserve.fake_torchserve import Running, running
from tests.radserve.minimal_archive import write_archive


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    for version in ("1.0.0", "2.0.0"):
        write_archive(folder, version=version)
    return folder


@pytest.fixture
def run_directory(tmp_path: Path) -> RunDirectory:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    directory = RunDirectory(folder)
    directory.prepare()
    return directory


@pytest.fixture
def torchserve(store: Path, run_directory: RunDirectory) -> Iterator[Running]:
    """A fake TorchServe with version 1.0.0 loaded."""
    with running(store, run_directory.management, "brightness-1.0.0.mar") as server:
        yield server
