"""Folders of a server."""

from pathlib import Path

from radserve.host.run_directory import RunDirectory
from tests.radserve.minimal_archive import write_archive


def two_versions(folder: Path) -> Path:
    """Make a model store with versions 1.0.0 and 2.0.0 of one model."""
    for version in ("1.0.0", "2.0.0"):
        write_archive(folder, version=version)
    return folder


def prepared(folder: Path) -> RunDirectory:
    """Make a private run directory."""
    folder.mkdir(mode=0o700)
    directory = RunDirectory(folder)
    directory.prepare()
    return directory
