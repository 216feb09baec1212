"""The folder of one run: what a server and its front write, and how they find each other."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from radserve.errors import ServeError

_LONGEST_SOCKET: Final = 107
"""Characters that the path of a unix socket may have (sun_path)."""


@dataclass(frozen=True)
class RunDirectory:
    """The folder of one run.

    Everything that TorchServe and nginx write goes below it, so the root file system may be read-only.
    """

    folder: Path

    @property
    def management(self) -> Path:
        """Unix socket of the management API."""
        return self.folder / "management.sock"

    @property
    def busy(self) -> Path:
        """See `handlers.worker.BUSY`."""
        return self.folder / "busy"

    @property
    def closing(self) -> Path:
        """See `handlers.worker.CLOSING`."""
        return self.folder / "closing"

    @property
    def ready(self) -> Path:
        """Exists while the front may send requests: from the first readiness to the end of the drain's delay."""
        return self.folder / "ready"

    @property
    def control(self) -> Path:
        """Unix socket of the supervisor's control API."""
        return self.folder / "control.sock"

    @property
    def traffic(self) -> Path:
        """Unix socket (datagrams) on which the supervisor hears of requests; see `radserve.proxy.access_events`."""
        return self.folder / "traffic.sock"

    @property
    def routing(self) -> Path:
        """Link to the proxy's traffic-split tables; see `radserve.proxy.traffic_split`."""
        return self.folder / "routing"

    @property
    def versions(self) -> Path:
        """Holds a folder for each version, to which the tables lead."""
        return self.folder / "versions"

    @property
    def configuration(self) -> Path:
        """The configuration that TorchServe reads."""
        return self.folder / "config.properties"

    @property
    def front(self) -> Path:
        """Folder of the front."""
        return self.folder / "front"

    @property
    def front_lock(self) -> Path:
        """Locked as long as a front runs; see `fronted`."""
        return self.folder / "front.lock"

    @property
    def certificate(self) -> Path:
        """The certificate that the front serves, as it last read it; the key is not with it."""
        return self.front / "certificate.pem"

    def prepare(self) -> None:
        """Make the folders and files that TorchServe expects, without what a killed run left."""
        for path in (self.ready, self.management, self.control, self.traffic, self.closing, self.routing):
            path.unlink(missing_ok=True)
        for path in (self.versions, *self.folder.glob("routing.*")):
            shutil.rmtree(path, ignore_errors=True)
        for name in ("tmp", "logs", "workflows"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir(mode=0o700)
        self.busy.touch(mode=0o600)


@contextmanager
def opened(folder: Path | None) -> Iterator[RunDirectory]:
    """Have a runtime folder to oneself: a temporary one, or the one that the operator chose.

    Raises
    ------
    ServeError
        If others may enter it, another run uses it, or nothing in it may be executed.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="radserve-") as name:
            _require_executable(Path(name))
            yield RunDirectory(Path(name))
        return
    runtime = RunDirectory(folder.absolute())
    require_private(runtime)
    _require_executable(runtime.folder)
    with (runtime.folder / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ServeError(f"--runtime {folder}: another server uses it; choose another folder.") from error
        yield runtime


def fronted(runtime: RunDirectory) -> bool:
    """Whether a front runs before the server, maybe in another container: then requests can be shared out."""
    try:
        with runtime.front_lock.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def require_private(runtime: RunDirectory) -> None:
    """Make a folder that only we may enter: who reaches the management socket manages the server.

    Raises
    ------
    ServeError
        If it cannot be made so, or its path is too long for a socket.
    """
    folder = runtime.folder
    if len(os.fsencode(runtime.management)) > _LONGEST_SOCKET:
        raise ServeError(f"--runtime {folder}: too long a path for the sockets in it; choose a shorter one.")
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700, parents=True)
        found = folder.stat()
    except OSError as error:
        raise ServeError(f"--runtime {folder}: {error.strerror}; choose a folder that can be written.") from error
    if found.st_uid != os.geteuid():
        raise ServeError(f"--runtime {folder}: belongs to another user; name a folder below it, which is then made.")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise ServeError(f"--runtime {folder}: others may enter it, and so manage the server; chmod 700 {folder}")


def _require_executable(folder: Path) -> None:
    """Refuse what Docker's --tmpfs makes by default: TorchServe ends there with a stack trace."""
    if os.statvfs(folder).f_flag & os.ST_NOEXEC:
        raise ServeError(
            f"--runtime {folder}: mounted noexec, but Java loads a library from there; mount it with exec "
            "(docker run --tmpfs /run/radserve:exec,mode=1777)."
        )
