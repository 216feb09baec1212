"""The server that is meant: the one that runs, or the one that was named."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from radserve.client import discovery
from radserve.errors import InvalidCallError, UnreachableError
from tests.radserve.scripted import scripted


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let no server of this machine be found but those of a test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def folder(temporary: Path, name: str) -> Path:
    (temporary / name).mkdir(mode=0o700)
    return temporary / name / "control.sock"


def test_the_one_that_answers_is_found_among_what_others_left(temporary: Path) -> None:
    with socket.socket(socket.AF_UNIX) as ended:
        ended.bind(str(folder(temporary, "radserve-ended")))
    folder(temporary, "radserve-file").touch()
    folder(temporary, "radserve-empty")
    with scripted(folder(temporary, "radserve-one")), scripted(folder(temporary, "other-program")):
        assert discovery.find() == temporary / "radserve-one" / "control.sock"


def test_where_none_runs_the_ways_out_are_named(temporary: Path) -> None:
    with pytest.raises(UnreachableError) as caught:
        discovery.find()
    said = str(caught.value)
    assert said.startswith(f"No running server of {discovery.user()} was found: {temporary}/radserve-*/control.sock")
    for way in ("scripts/serve", "--runtime FOLDER", "--url https://HOST:8444"):
        assert way in said
    with socket.socket(socket.AF_UNIX) as ended:
        ended.bind(str(folder(temporary, "radserve-ended")))
    with pytest.raises(UnreachableError, match=r"but what ended servers left \(.*/radserve-ended\)"):
        discovery.find()


def test_where_several_run_they_are_named(temporary: Path) -> None:
    with scripted(folder(temporary, "radserve-a")), scripted(folder(temporary, "radserve-b")):
        with pytest.raises(InvalidCallError) as caught:
            discovery.find()
        assert f"{temporary}/radserve-a, {temporary}/radserve-b. Choose one with --runtime" in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make somebody else's folder")
def test_a_socket_that_somebody_else_put_there_is_passed_over(temporary: Path) -> None:
    trap = folder(temporary, "radserve-trap")
    with scripted(trap):
        os.chown(trap.parent, 12345, 12345)
        with pytest.raises(UnreachableError):
            discovery.find()


def test_who_called_sudo_is_who_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ada")
    assert discovery.actor() == "ada"
    monkeypatch.setenv("SUDO_USER", "jürgen\n")
    assert discovery.actor() == "j?rgen?"
    monkeypatch.delenv("SUDO_USER")
    assert discovery.actor() == discovery.user()


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert discovery.user() == "uid-54321"
