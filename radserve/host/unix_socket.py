"""Unix sockets with the permissions that their users need, from the first moment."""

import errno
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_SOCKETS: Final = Path("/proc/net/unix")
_CONNECTED: Final = {"02", "03"}  # SS_CONNECTING and SS_CONNECTED in linux/net.h: before and after it was accepted


@contextmanager
def listen(path: Path, mode: int = 0o600, group: str | None = None) -> Iterator[socket.socket]:
    """Listen on a unix socket, by default accessible to its owner only; `group` is a name or a number.

    Replaces the socket of a process that was killed. Raises LookupError if the group does not exist, and OSError if the
    path is another file, or the user may not set the group: only root and members may.
    """
    if os.path.lexists(path) and not stat.S_ISSOCK(path.lstat().st_mode):
        raise FileExistsError(errno.EEXIST, "not a socket", str(path))
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        bound = path.lstat()  # not given to another file while `listener` is open
        try:
            if group is not None:
                shutil.chown(path, group=int(group) if group.isdigit() else group)
            path.chmod(mode)  # connections are refused until it listens
            listener.listen()
            yield listener
        finally:
            if path.exists() and path.lstat().st_ino == bound.st_ino:  # else it belongs to a successor
                path.unlink()


def is_connected(path: Path, sockets: Path = _SOCKETS) -> bool:
    """Return whether a listening socket has connections, also ones that it has not accepted yet.

    True where the system does not say so: `sockets` is as in proc(5).
    """
    try:
        lines = [line.split(maxsplit=7) for line in sockets.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return True
    states = {line[5] for line in lines if line[7:] == [str(path)]}
    return not states or bool(states & _CONNECTED)
