"""The folder of one run."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from radserve.errors import ServeError
from radserve.host import run_directory
from radserve.host.run_directory import RunDirectory


def test_a_temporary_one_is_private_and_goes_with_the_run() -> None:
    with run_directory.opened(None) as found:
        found.prepare()
        assert stat.S_IMODE(found.folder.stat().st_mode) == 0o700
    assert not found.folder.exists()


def test_a_chosen_one_is_made_kept_and_freed_of_what_a_killed_run_left(tmp_path: Path) -> None:
    folder = tmp_path / "below" / "runtime"
    with run_directory.opened(folder) as found:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        found.prepare()
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(found.management))
        for path in (found.ready, found.closing, folder / "tmp" / "extracted"):
            path.touch()
        found.front.mkdir()
    with run_directory.opened(folder) as found:
        found.prepare()
        assert not [path for path in (found.management, found.ready, found.closing) if path.exists()]
        assert list((folder / "tmp").iterdir()) == []
        assert found.front.exists(), "a front that runs apart has its files there"
    assert folder.exists()


def test_one_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    with pytest.raises(ServeError, match="chmod 700"), run_directory.opened(tmp_path):
        pass
    tmp_path.chmod(0o700)


def test_one_that_another_run_uses_is_refused(tmp_path: Path) -> None:
    with (
        run_directory.opened(tmp_path),
        pytest.raises(ServeError, match="another server uses it"),
        run_directory.opened(tmp_path),
    ):
        pass


def test_one_too_deep_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServeError, match="too long a path"):
        run_directory.require_private(RunDirectory(tmp_path / ("x" * 100)))


def test_one_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServeError, match="choose a folder that can be written"):
        run_directory.require_private(RunDirectory(tmp_path / "file" / "below"))


def test_one_where_nothing_may_be_executed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a mount cannot be made without rights, so its flag is shown instead."""
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_NOEXEC))
    for folder in (tmp_path, None):
        with pytest.raises(ServeError, match="mounted noexec"), run_directory.opened(folder):
            pass
