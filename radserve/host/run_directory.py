"""Run directory: files and sockets of one running server, shared with its proxy."""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from radserve.errors import ServeError

_MAX_SOCKET_PATH: Final = 107  # longest path of a unix socket, in bytes (sun_path in unix(7))


class RunDirectory:
    """Paths in the directory of one run. Nothing is written elsewhere, so the root file system may be read-only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inference = folder / "inference.sock"  # unix sockets of TorchServe's APIs
        self.metrics = folder / "metrics.sock"
        self.management = folder / "management.sock"
        self.control = folder / "control.sock"  # unix socket of the supervisor's control API
        self.traffic = folder / "traffic.sock"  # unix datagram socket; see `radserve.proxy.access_events`
        self.forks = folder / "forks.sock"  # unix socket of `radserve.torchserve.fork_server`
        self.python = folder / "python"  # starts forked workers; see `radserve.torchserve.worker_start`
        self.configuration = folder / "config.properties"  # of TorchServe
        self.busy = folder / "busy"  # lock file of busy workers; see `handlers.worker.BUSY`
        self.profiles = folder / "profiles.json"  # verified site profiles; see `handlers.profile`
        self.closing = folder / "closing"  # flag file of a drain; see `handlers.worker.CLOSING`
        self.lock = folder / "lock"  # locked while a server runs; see `server_died`
        self.ready = folder / "ready"  # flag file: the proxy may forward requests, until the end of the drain delay
        self.gates = folder / "gates"  # flag files of waiting models; see `radserve.versions.request_hold`
        self.routing = folder / "routing"  # link to the traffic-split tables; see `radserve.proxy.traffic_split`
        self.models = folder / "models"  # unpacked archives; see `radserve.torchserve.verified_models.unpack`
        self.ray = folder / "r"  # files of Ray, whose sockets have long names
        self.versions = folder / "versions"  # one subfolder per version, to which these tables link
        self.proxy = folder / "front"  # folder of the proxy that publishes the server
        self.local_proxy = folder / "local"  # folder of the proxy for this machine only
        self.certificate = self.proxy / "certificate.pem"  # copy of the one in use, which may differ from a renewed one

    def prepare(self) -> None:
        """Create the folders and files that TorchServe expects, and remove those of a killed run."""
        sockets = (self.inference, self.metrics, self.management, self.control, self.traffic, self.forks)
        for path in (self.ready, self.closing, self.routing, *sockets):
            path.unlink(missing_ok=True)
        for path in (self.versions, self.ray, *self.folder.glob("routing.*")):
            shutil.rmtree(path, ignore_errors=True)
        for name in ("tmp", "logs", "models", "workflows", "gates"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir(mode=0o700)
        self.busy.touch(mode=0o600)


@contextmanager
def opened(folder: Path | None) -> Iterator[RunDirectory]:
    """Open a run directory for exclusive use; None creates a temporary one."""
    with contextlib.ExitStack() as stack:
        if folder is None:
            run_directory = RunDirectory(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="radserve-"))))
        else:
            run_directory = RunDirectory(folder.absolute())
            require_private(run_directory)
            try:
                stack.enter_context(FileLock(run_directory.lock, timeout=0))
            except Timeout as error:
                raise ServeError(f"--runtime {folder}: in use by another server; choose another folder.") from error
        _require_executable(run_directory.folder)
        yield run_directory


def proxy_lock(folder: Path) -> Path:
    """Return the file that is locked while a proxy runs in `folder`."""
    return folder.with_suffix(".lock")


def proxy_running(run_directory: RunDirectory) -> bool:
    """Return whether a proxy runs for this server, possibly in another container."""
    return any(_is_locked(proxy_lock(folder)) is True for folder in (run_directory.proxy, run_directory.local_proxy))


def server_died(run_directory: RunDirectory) -> bool:
    """Return whether a server used this directory and exited, however that happened."""
    return _is_locked(run_directory.lock) is False


def _is_locked(path: Path) -> bool | None:
    """Return whether a process holds a lock file; None if there is no such file."""
    try:
        with path.open("rb") as lock:
            # Shared, so that this probe never blocks another one; filelock has exclusive locks only.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return True
    return False


def require_safe(folder: Path) -> None:
    """Create a run directory that only this user can enter, and from which Java can load; raises ServeError."""
    run_directory = RunDirectory(folder.absolute())
    require_private(run_directory)
    _require_executable(run_directory.folder)


def require_private(run_directory: RunDirectory) -> None:
    """Create the folder for this user only: access to the management socket is control of the server."""
    folder = run_directory.folder
    if len(os.fsencode(run_directory.management)) > _MAX_SOCKET_PATH:
        raise ServeError(f"--runtime {folder}: the path is too long for a unix socket; choose a shorter one.")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise ServeError(f"--runtime {folder}: {error.strerror}; choose a writable folder.") from error
    if status.st_uid != os.geteuid():
        raise ServeError(f"--runtime {folder}: owned by another user; choose a subfolder, which is then created.")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise ServeError(f"--runtime {folder}: other users can enter it and control the server; chmod 700 {folder}")


def _require_executable(folder: Path) -> None:
    """Reject a noexec mount, Docker's default for --tmpfs: TorchServe would fail there with a stack trace."""
    if os.statvfs(folder).f_flag & os.ST_NOEXEC:
        raise ServeError(
            f"--runtime {folder}: mounted noexec, but Java loads a library from there; mount it with exec "
            "(docker run --tmpfs /run/radserve:exec,mode=1777)."
        )
