"""Finds the control socket of a running server."""

import os
import pwd
import socket
import stat
import tempfile
from pathlib import Path
from typing import Final

from radserve.errors import InvalidCallError, UnreachableError

SOCKET: Final = "control.sock"  # file name in the run directory of a server
_PATTERN: Final = f"radserve-*/{SOCKET}"  # below the folder for temporary files; see `radserve.host.run_directory`
_TIMEOUT: Final = 2.0


def find() -> Path:
    """Return the control socket of the only server of this user; raises UnreachableError or InvalidCallError."""
    folder = Path(tempfile.gettempdir())
    sockets = sorted(path for path in folder.glob(_PATTERN) if _is_own(path))
    running = [path for path in sockets if _is_listening(path)]
    if len(running) == 1:
        return running[0]
    if running:
        names = ", ".join(str(path.parent) for path in running)
        raise InvalidCallError(f"Several servers of {user()} are running: {names}. Choose one with --runtime FOLDER.")
    stale = f" except stale ones ({', '.join(str(path.parent) for path in sockets)})" if sockets else ""
    raise UnreachableError(
        f"No running server of {user()}: no sockets match {folder / _PATTERN}{stale}. Start one with scripts/serve, or "
        "choose one with --runtime FOLDER (that of 'radserve serve') or --url https://HOST:8444."
    )


def require_listening(path: Path) -> None:
    """Raise OSError unless a process listens on a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT)
        connection.connect(str(path))


def user() -> str:
    """Return the name of the current user, or `uid-N`."""
    number = os.geteuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"uid-{number}"


def actor() -> str:
    """Return the user for the audit log: the one who called sudo, or the current one."""
    name = os.environ.get("SUDO_USER") or user()
    return "".join(character if character.isascii() and character.isprintable() else "?" for character in name)


def _is_own(path: Path) -> bool:
    try:
        return path.parent.lstat().st_uid == os.geteuid() and stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False


def _is_listening(path: Path) -> bool:
    try:
        require_listening(path)
    except OSError:
        return False
    return True
