"""Tests of radserve.host.run_directory."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from radserve.errors import ServeError
from radserve.host import run_directory
from radserve.host.run_directory import RunDirectory
from tests.conftest import ROOT


def test_a_temporary_directory_is_private_and_removed_afterwards() -> None:
    with run_directory.opened(None) as directory:
        directory.prepare()
        assert stat.S_IMODE(directory.folder.stat().st_mode) == 0o700
    assert not directory.folder.exists()


def test_a_chosen_directory_is_created_kept_and_cleaned_of_leftovers(tmp_path: Path) -> None:
    folder = tmp_path / "below" / "runtime"
    with run_directory.opened(folder) as directory:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        directory.prepare()
        with socket.socket(socket.AF_UNIX) as leftover:
            leftover.bind(str(directory.management))
        gateway = folder / "gateway.sock"
        gateway.touch()
        for path in (directory.ready, directory.closing, folder / "tmp" / "extracted"):
            path.touch()
        directory.proxy.mkdir()
    with run_directory.opened(folder) as directory:
        directory.prepare()
        assert not [path for path in (directory.management, directory.ready, directory.closing) if path.exists()]
        assert list((folder / "tmp").iterdir()) == []
        assert gateway.exists()
        assert directory.proxy.exists(), "a proxy in another process has its files there"
    assert folder.exists()


def test_a_directory_open_to_other_users_is_rejected(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    with pytest.raises(ServeError, match="chmod 700"), run_directory.opened(tmp_path):
        pass
    tmp_path.chmod(0o700)


def test_a_directory_in_use_is_rejected(tmp_path: Path) -> None:
    with (
        run_directory.opened(tmp_path),
        pytest.raises(ServeError, match="in use by another server"),
        run_directory.opened(tmp_path),
    ):
        pass


def test_a_path_too_long_for_sockets_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ServeError, match="path is too long"):
        run_directory.require_private(RunDirectory(tmp_path / ("x" * 100)))


def test_a_directory_that_cannot_be_created_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServeError, match="choose a writable folder"):
        run_directory.require_private(RunDirectory(tmp_path / "file" / "below"))


def test_a_noexec_directory_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mounting needs root, so the flag of the mount is simulated."""
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_NOEXEC))
    for folder in (tmp_path, None):
        with pytest.raises(ServeError, match="mounted noexec"), run_directory.opened(folder):
            pass


def test_the_lock_of_a_killed_process_is_free_again(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom radserve.host import run_directory\n"
        "context = run_directory.opened(Path(sys.argv[1]))\ncontext.__enter__()\nos._exit(1)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=False).returncode == 1
    with run_directory.opened(tmp_path):
        pass
