"""Tests of radserve.host.unix_socket."""

import errno
import os
import socket
import stat
from contextlib import ExitStack
from pathlib import Path

import pytest

from radserve.host import unix_socket


def connects(path: Path, *, user: int, group: int) -> bool:
    """Return whether a process of a user and group can connect."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)
            with socket.socket(socket.AF_UNIX) as client:
                os._exit(client.connect_ex(str(path)))
        finally:
            os._exit(255)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, errno.EACCES), code
    return code == 0


def test_socket_is_private_and_replaces_that_of_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    old = os.umask(0)
    try:
        with unix_socket.listen(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(old)
    assert not path.exists()


def test_other_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text("keys")
    with pytest.raises(FileExistsError, match="not a socket"), unix_socket.listen(path):
        pass
    assert path.read_text() == "keys"


def test_unknown_group_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LookupError), unix_socket.listen(tmp_path / "a.sock", 0o660, "no-such-group"):
        pass
    assert not (tmp_path / "a.sock").exists()


def test_own_group_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with unix_socket.listen(path, 0o660, str(os.getgid())):
        status = path.stat()
        assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, os.getgid())


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become other users")
def test_only_the_group_can_connect() -> None:
    path = Path(f"/tmp/radserve-test-{os.getpid()}.sock")  # below a folder that every user may enter
    with unix_socket.listen(path, 0o660, "33"):  # www-data, the user of nginx on Debian
        assert connects(path, user=65534, group=33)
        assert not connects(path, user=65534, group=65534)


def test_end_does_not_remove_the_socket_of_a_successor(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with ExitStack() as old:
        old.enter_context(unix_socket.listen(path))
        with unix_socket.listen(path):
            old.close()
            assert connects(path, user=os.getuid(), group=os.getgid())
        assert not path.exists()


def test_end_after_the_socket_was_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with unix_socket.listen(path):
        path.unlink()


def test_a_socket_is_connected_while_a_client_is_even_before_it_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "with space.sock"
    with unix_socket.listen(path) as listener:
        assert not unix_socket.is_connected(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            assert unix_socket.is_connected(path)
            accepted, _ = listener.accept()
            with accepted:
                assert unix_socket.is_connected(path)
        assert not unix_socket.is_connected(path)


def test_an_unknown_socket_counts_as_connected(tmp_path: Path) -> None:
    assert unix_socket.is_connected(tmp_path / "a.sock")
    assert unix_socket.is_connected(tmp_path / "a.sock", tmp_path / "missing")
