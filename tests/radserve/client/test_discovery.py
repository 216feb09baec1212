"""Discovery of the control socket of a running server."""

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
    """Hide running servers of this machine from the test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def folder(temporary: Path, name: str) -> Path:
    (temporary / name).mkdir(mode=0o700)
    return temporary / name / "control.sock"


def test_the_listening_socket_is_found_among_stale_ones(temporary: Path) -> None:
    with socket.socket(socket.AF_UNIX) as ended:
        ended.bind(str(folder(temporary, "radserve-ended")))
    folder(temporary, "radserve-file").touch()
    folder(temporary, "radserve-empty")
    with scripted(folder(temporary, "radserve-one")), scripted(folder(temporary, "other-program")):
        assert discovery.find() == temporary / "radserve-one" / "control.sock"


def test_without_a_server_the_error_gives_options(temporary: Path) -> None:
    with pytest.raises(UnreachableError) as raised:
        discovery.find()
    message = str(raised.value)
    assert message.startswith(
        f"No running server of {discovery.user()}: no sockets match {temporary}/radserve-*/control.sock"
    )
    for way in ("scripts/serve", "--runtime FOLDER", "--url https://HOST:8444"):
        assert way in message
    with socket.socket(socket.AF_UNIX) as ended:
        ended.bind(str(folder(temporary, "radserve-ended")))
    with pytest.raises(UnreachableError, match=r"except stale ones \(.*/radserve-ended\)"):
        discovery.find()


def test_several_servers_are_named(temporary: Path) -> None:
    with scripted(folder(temporary, "radserve-a")), scripted(folder(temporary, "radserve-b")):
        with pytest.raises(InvalidCallError) as raised:
            discovery.find()
        assert f"{temporary}/radserve-a, {temporary}/radserve-b. Choose one with --runtime" in str(raised.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can create a folder of another user")
def test_sockets_of_other_users_are_ignored(temporary: Path) -> None:
    trap = folder(temporary, "radserve-trap")
    with scripted(trap):
        os.chown(trap.parent, 12345, 12345)
        with pytest.raises(UnreachableError):
            discovery.find()


def test_the_actor_is_the_caller_of_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ada")
    assert discovery.actor() == "ada"
    monkeypatch.setenv("SUDO_USER", "jürgen\n")
    assert discovery.actor() == "j?rgen?"
    monkeypatch.delenv("SUDO_USER")
    assert discovery.actor() == discovery.user()


def test_a_user_without_a_name_is_a_uid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert discovery.user() == "uid-54321"
