"""Where the server is whose control API is asked."""

from __future__ import annotations

import os
import pwd
import socket
import stat
import tempfile
from pathlib import Path
from typing import Final

from radserve.errors import InvalidCallError, UnreachableError

SOCKET: Final = "control.sock"
"""In the runtime folder of a server."""
_PATTERN: Final = f"radserve-*/{SOCKET}"
"""Below the folder for temporary files; see `radserve.host.run_directory.opened`."""
_PATIENCE: Final = 2.0


def find() -> Path:
    """Return the control socket of this user's one running server.

    Raises
    ------
    Unreachable
        If there is none.
    WrongCall
        If there are several.
    """
    folder = Path(tempfile.gettempdir())
    sockets = sorted(path for path in folder.glob(_PATTERN) if _ours(path))
    running = [path for path in sockets if _listening(path)]
    if len(running) == 1:
        return running[0]
    if running:
        names = ", ".join(str(path.parent) for path in running)
        raise InvalidCallError(f"Several servers of {user()} run here: {names}. Choose one with --runtime FOLDER.")
    left = f" but what ended servers left ({', '.join(str(path.parent) for path in sockets)})" if sockets else ""
    raise UnreachableError(
        f"No running server of {user()} was found: {folder / _PATTERN} leads to nothing{left}. Start one with "
        "scripts/serve; or name one: --runtime FOLDER, as 'radserve serve' was told, or --url https://HOST:8444."
    )


def require_listening(path: Path) -> None:
    """Raise OSError if nobody listens at a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE)
        connection.connect(str(path))


def user() -> str:
    """Name who we are; a user without a name is called by his number."""
    number = os.geteuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"uid-{number}"


def actor() -> str:
    """Name the person who acts, for the audit log: whoever called sudo, else the user."""
    name = os.environ.get("SUDO_USER") or user()
    return "".join(sign if sign.isascii() and sign.isprintable() else "?" for sign in name)


def _ours(path: Path) -> bool:
    """Whether a socket lies in a folder of this user, and is none that somebody else put there."""
    try:
        return path.parent.lstat().st_uid == os.geteuid() and stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False


def _listening(path: Path) -> bool:
    try:
        require_listening(path)
    except OSError:
        return False
    return True
