"""nginx as a child process: its folder, its start, its log, its new certificates, its end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
import re
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import BinaryIO, Final

import psutil

from radserve.errors import ServeError
from radserve.host.process import die_with_parent
from radserve.proxy import certificate
from radserve.proxy import options as front
from radserve.proxy.options import Options, Upstreams

logger = logging.getLogger(__name__)

_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - for its file system, not for its name
_LINE: Final = re.compile(r"\S+ \S+ \[(?P<level>\w+)\] \d+#\d+: (?:\*\d+ )?(?P<message>.*)")
_REQUEST: Final = re.compile(r", request: .*")
"""What nginx adds to an error: the request line, with whatever its query says about a patient."""
_UNHEARD: Final = re.compile(r"(?:connect|send)\(\) failed \(.*\)(?: while logging to syslog.*)?")
"""What a worker says, as an alert, when the supervisor listens no more; it tries again with the next request."""
_LEVELS: Final = {"warn": logging.WARNING, "error": logging.ERROR}
_GRACE: Final = 5.0
_ENDING: Final = 2.0
"""Seconds for which a front that is just ending may hold its lock."""
SHOWN: Final = "certificate.pem"
"""Copy of the certificate that is served; a renewed one that nginx has not read yet must not look served."""


def binary() -> str:
    """Find nginx, also where only root's PATH leads.

    Raises
    ------
    ServeError
        If it is not installed.
    """
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise ServeError("nginx is not installed, and it is what is published: apt install nginx-light.")
    return found


class Nginx:
    """One run of nginx, in a folder that is made for it.

    Attributes
    ----------
    folder
        Holds the configuration, the process' id, the certificate served and the bodies on their way.
    """

    def __init__(self, options: Options, behind: Upstreams, folder: Path) -> None:
        self._options = options
        self._behind = behind
        self._cache: Path | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._quitting = False
        self.folder = folder

    async def start(self) -> None:
        """Check the certificate and the configuration, and start.

        Raises
        ------
        ServeError
            If nginx would not run.
        """
        with await self._locked() as lock:
            await self._start(lock.fileno())
        logger.info("the front listens at %s", self._options.url)

    async def _locked(self) -> BinaryIO:
        """Say that there is a front, to the supervisor (`runtime.fronted`) and to others that would be one here.

        nginx inherits the lock, and so holds it as long as it runs, whatever becomes of this process.
        """
        lock = self._behind.runtime.front_lock.open("ab")
        deadline = time.monotonic() + _ENDING
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    lock.close()
                    folder = self._behind.runtime.folder
                    raise ServeError(f"--runtime {folder}: another front uses it; each needs a server.") from error
                await asyncio.sleep(0.05)
            else:
                return lock

    async def _start(self, lock: int) -> None:
        self._prepare()
        await self._check()
        self._show_certificate()
        # A pipe of our own: asyncio's would have us wait for nginx until its last worker has closed it.
        read, write = os.pipe()
        self._process = process = await asyncio.create_subprocess_exec(
            *self._command(),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=write,
            # A session of its own: Ctrl-C reaches this program alone, and the workers can be told from all others.
            start_new_session=True,
            preexec_fn=die_with_parent,
            pass_fds=(lock,),
        )
        os.close(write)
        self._reader = asyncio.create_task(_relay(read))
        # Until it has workers: before, it listens but hears nobody.
        while process.returncode is None and not _children(process.pid):  # noqa: ASYNC110 - it says nothing itself
            await asyncio.sleep(0.01)
        if process.returncode is not None:
            raise ServeError(f"nginx ended with {process.returncode} when it was started; the log says why.")

    async def wait(self) -> int:
        """Wait until nginx ends; return its exit code, as a shell gives it."""
        assert self._process is not None
        assert self._reader is not None
        code = await self._process.wait()
        self._end_workers()
        await self._reader
        return code if code >= 0 else 128 - code

    async def reload(self) -> None:
        """Read the certificate anew; a bad one is said, and the one before stays."""
        try:
            await self._check()
        except ServeError as error:
            logger.error("the certificate stays as it was: %s", error)  # noqa: TRY400 - said in full
            return
        self._signal(signal.SIGHUP)
        self._show_certificate()
        logger.info("nginx reads certificates anew")

    async def quit(self, seconds: float) -> bool:
        """Accept nothing more and finish what is in flight; return whether it was finished in time."""
        assert self._process is not None
        self._signal(signal.SIGQUIT)
        try:
            await asyncio.wait_for(asyncio.shield(self._process.wait()), seconds)
        except TimeoutError:
            return False
        return True

    async def end(self) -> None:
        """Stop at once, if it still runs, and remove what it wrote."""
        process = self._process
        if process is not None and process.returncode is None:
            self._signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), _GRACE)
            except TimeoutError:
                process.kill()
                await process.wait()
        self._end_workers()
        if self._reader is not None:
            await self._reader
        for folder in (self.folder, self._cache):
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    def _prepare(self) -> None:
        """Make the folder anew, with nothing of a run that was killed."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o700)
        self._cache = _in_memory(self.folder)
        if self._cache is None:
            logger.warning("no tmpfs is in reach, so keys are not cached: each request asks the supervisor")
        text = front.configuration(self._options, self._behind, self.folder, self._cache)
        self._configuration.write_text(text, encoding="utf-8")
        _require_writable(self._options.access_log)
        if os.geteuid() == 0:
            logger.warning("nginx runs as root, since this program does; a user without rights would be safer")

    def _show_certificate(self) -> None:
        """Leave the certificate where the supervisor, maybe in another container, can say when it expires."""
        if self._options.certificate is not None:
            shutil.copyfile(self._options.certificate, self.folder / SHOWN)

    @property
    def _configuration(self) -> Path:
        return self.folder / "nginx.conf"

    def _command(self, *more: str) -> list[str]:
        return [binary(), "-p", str(self.folder), "-e", "stderr", "-c", str(self._configuration), *more]

    async def _check(self) -> None:
        if self._options.certificate is not None and self._options.certificate_key is not None:
            certificate.check(self._options.certificate, self._options.certificate_key)
        test = await asyncio.create_subprocess_exec(
            *self._command("-t", "-q"), stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        _, said = await test.communicate()
        if test.returncode != 0:
            raise ServeError(f"nginx refuses its configuration: {said.decode(errors='replace').strip()}")

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def _end_workers(self) -> None:
        """Stop workers that a killed master left behind: they would go on serving."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []


async def _relay(descriptor: int) -> None:
    """Write what nginx says as records of our own log, until all who could say something are gone."""
    stream, loop = asyncio.StreamReader(), asyncio.get_running_loop()
    unheard = ""
    with open(descriptor, "rb", buffering=0) as pipe:  # noqa: ASYNC230 - it is open already
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), pipe)
        async for line in stream:
            text = line.decode(errors="replace").strip()
            match = _LINE.fullmatch(text)
            level = _LEVELS.get(match["level"], logging.CRITICAL) if match else logging.WARNING
            message = _REQUEST.sub("", match["message"] if match else text)
            if _UNHEARD.fullmatch(message) is None:
                logger.log(level, "%s", message)
            elif message != unheard:  # once, not with every request
                logger.warning("the supervisor does not hear what comes of requests: %s", message)
                unheard = message
        transport.close()


def _in_memory(folder: Path) -> Path | None:
    """Make a folder that lies in memory and nobody else can enter: in the run's own, or in /dev/shm."""
    if _is_memory(folder):
        path = folder / "keys"
        path.mkdir(mode=0o700)
        return path
    if not _is_memory(_SHARED_MEMORY) or not os.access(_SHARED_MEMORY, os.W_OK):
        return None
    prefix = f"radserve-{hashlib.sha256(bytes(folder)).hexdigest()[:12]}-"
    for left in _SHARED_MEMORY.glob(f"{prefix}*"):  # of a run in the same folder that was killed
        shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=prefix, dir=_SHARED_MEMORY))


def _is_memory(path: Path) -> bool:
    """Whether a folder lies in a file system that never reaches a disk."""
    if not path.is_dir():
        return False
    mounts = {Path(item.mountpoint): item.fstype for item in psutil.disk_partitions(all=True)}
    resolved = path.resolve()
    where = next((item for item in (resolved, *resolved.parents) if item in mounts), None)
    return where is not None and mounts[where] in ("tmpfs", "ramfs")


def _require_writable(log: Path) -> None:
    try:
        os.close(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644))
    except OSError as error:
        raise ServeError(
            f"--access-log {log}: cannot be opened ({error.strerror}). nginx opens standard output anew, which "
            "cannot be where it is a socket, as under systemd, or another user's: give a file, or pipe it through cat."
        ) from error
    # nginx opens standard output anew; where that is a file, what this program says must not go over nginx's lines.
    fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | os.O_APPEND)
