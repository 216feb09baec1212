"""nginx as a child process: start, restart, certificate reload, drain and stop."""

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import signal
import time
from pathlib import Path
from typing import BinaryIO, Final

import psutil
from prometheus_client import Counter

from radserve.errors import ServeError
from radserve.host.background import observe
from radserve.host.process import die_with_parent, inherited_environment
from radserve.host.run_directory import proxy_lock
from radserve.proxy import certificate, configuration, key_cache, nginx_log
from radserve.proxy.configuration import Upstreams
from radserve.proxy.options import ProxyOptions

logger = logging.getLogger(__name__)

_STOP_TIMEOUT: Final = 5.0
_FAREWELL: Final = 1.0  # seconds in which clients close the connections that they keep
_LOCK_TIMEOUT: Final = 2.0  # seconds for which a stopping proxy may still hold its lock
_RESTARTS: Final = 5  # consecutive ones; the pauses before them double
_FIRST_PAUSE: Final = 0.1  # seconds
_STABLE: Final = 60.0  # seconds after which a run of nginx counts as a success

RESTARTS: Final = Counter("radserve_proxy_restarts_total", "Restarts of nginx after it died.", registry=None)


def binary() -> str:
    """Return the path of nginx, including directories that are only on root's PATH."""
    path = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    if path is None:
        raise ServeError("nginx is not installed, and every server runs behind it: apt install nginx-light.")
    return path


class Nginx:
    """One run of nginx; `folder` is created for all its files."""

    def __init__(self, options: ProxyOptions, upstreams: Upstreams) -> None:
        self._options = options
        self._upstreams = upstreams
        self._cache: Path | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._log: asyncio.Task[None] | None = None
        self._owns_folder = False  # it may be that of another proxy
        self._stopping = asyncio.Event()
        self._reloads: set[asyncio.Task[None]] = set()  # the event loop holds only weak references to tasks
        directory = upstreams.run_directory
        self.folder = directory.local_proxy if options.keyless else directory.proxy
        self._configuration = self.folder / "nginx.conf"

    async def start(self) -> None:
        """Check the certificate and the configuration, and start."""
        self._owns_folder = False
        with await self._locked() as lock:
            self._owns_folder = True
            shutil.rmtree(self.folder, ignore_errors=True)  # of a killed run
            self.folder.mkdir(mode=0o700)
            with key_cache.created(self.folder) as cache:
                self._cache = cache.folder if cache else None
                self._configure()
                await self._check()
                self._show_certificate()
                await self._start(lock.fileno(), *([cache.lock] if cache else []))
        logger.info("proxy listening at %s", self._options.url)

    async def _locked(self) -> BinaryIO:
        """Take the lock that tells the supervisor and other proxies that a proxy runs (`run_directory.proxy_running`).

        nginx inherits the descriptor and holds the lock while it runs, whatever happens to this process. filelock does
        not expose its descriptor, so this uses flock directly.
        """
        lock = proxy_lock(self.folder).open("ab")
        deadline = time.monotonic() + _LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    lock.close()
                    folder = self._upstreams.run_directory.folder
                    raise ServeError(
                        f"--runtime {folder}: in use by another proxy; a server has only one proxy."
                    ) from error
                await asyncio.sleep(0.05)
            else:
                return lock

    async def _start(self, *locks: int) -> None:
        # A plain pipe: with asyncio's, waiting for nginx would mean waiting until its last worker closed the pipe.
        read, write = os.pipe()
        self._process = process = await asyncio.create_subprocess_exec(
            *self._command(),
            env=inherited_environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=write,
            # In its own session, Ctrl-C does not reach it, and its workers form one process group.
            start_new_session=True,
            preexec_fn=die_with_parent,
            pass_fds=locks,
        )
        os.close(write)
        self._log = asyncio.create_task(nginx_log.relay(read))
        # Before it has workers, nginx listens but does not respond.
        while process.returncode is None and not _has_children(process.pid):  # noqa: ASYNC110 - nginx has no event
            await asyncio.sleep(0.01)
        if process.returncode is not None:
            raise ServeError(f"nginx exited with code {process.returncode} at start; see the log above.")

    async def wait(self) -> int:
        """Wait until nginx exits; return its exit code as a shell reports it."""
        assert self._process is not None
        assert self._log is not None
        code = await self._process.wait()
        self._kill_workers()
        await self._log
        return code if code >= 0 else 128 - code

    async def keep_running(self) -> int:
        """Restart nginx whenever it dies; return its exit code once it is stopped or keeps dying."""
        restarts = 0
        while True:
            started = time.monotonic()
            code = await self.wait()
            restarts = 0 if time.monotonic() - started >= _STABLE else restarts
            if self._stopping.is_set() or restarts == _RESTARTS:
                return code
            logger.error("nginx exited with code %d; restarting it", code)
            await asyncio.sleep(_FIRST_PAUSE * 2**restarts if restarts else 0.0)
            restarts += 1
            RESTARTS.inc()
            try:
                await self.start()
            except (ServeError, OSError) as error:
                logger.error("nginx not restarted: %s", error)  # noqa: TRY400 - the message is complete
            if self._stopping.is_set():  # meanwhile
                self._signal(signal.SIGQUIT)

    def reload_at_sighup(self) -> None:
        """Reload the certificate whenever this program gets SIGHUP."""
        loop = asyncio.get_running_loop()

        def reload() -> None:
            task = observe(loop.create_task(self.reload()), "reload of the certificate")
            self._reloads.add(task)
            task.add_done_callback(self._reloads.discard)

        loop.add_signal_handler(signal.SIGHUP, reload)

    async def reload(self) -> None:
        """Read the certificate again; log an error and keep the current one if the new one is invalid."""
        try:
            await self._check()
        except ServeError as error:
            logger.error("certificate not reloaded: %s", error)  # noqa: TRY400 - the message is complete
            return
        self._signal(signal.SIGHUP)
        self._show_certificate()
        logger.info("certificate reloaded")

    async def drain(self, seconds: float) -> bool:
        """Stop accepting connections and finish requests in flight; return False after `seconds`.

        Before that, responses close the connections that clients keep, because a request that is sent on one just when
        nginx closes it is lost.
        """
        assert self._process is not None
        self._stopping.set()
        start = time.monotonic()
        with contextlib.suppress(OSError, psutil.Error):  # nginx finishes its requests without it too
            await self._close_kept_connections(min(_FAREWELL, seconds / 2))
        seconds -= time.monotonic() - start
        self._signal(signal.SIGQUIT)
        try:
            await asyncio.wait_for(asyncio.shield(self._process.wait()), seconds)
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Stop nginx immediately if it still runs, and remove its files."""
        self._stopping.set()
        process = self._process
        if process is not None and process.returncode is None:
            self._signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), _STOP_TIMEOUT)
            except TimeoutError:
                process.kill()
                await process.wait()
        self._kill_workers()
        if self._log is not None:
            await self._log
        if self._owns_folder:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._cache is not None:
            shutil.rmtree(self._cache, ignore_errors=True)

    def _configure(self) -> None:
        """Write the configuration."""
        if self._cache is None:
            logger.warning("no tmpfs available: keys are not cached, so each request calls the supervisor")
        text = configuration.render(self._options, self._upstreams, self.folder, self._cache)
        self._configuration.write_text(text, encoding="utf-8")
        _require_writable(self._options.access_log)
        if os.geteuid() == 0:
            logger.warning("nginx runs as root, because this program does; use an unprivileged user")

    def _show_certificate(self) -> None:
        """Copy the certificate where the supervisor, possibly in another container, reads when it expires."""
        if self._options.certificate is not None:
            shutil.copyfile(self._options.certificate, self._upstreams.run_directory.certificate)

    def _command(self, *more: str) -> list[str]:
        return [binary(), "-p", str(self.folder), "-e", "stderr", "-c", str(self._configuration), *more]

    async def _check(self) -> None:
        if self._options.certificate is not None and self._options.certificate_key is not None:
            certificate.check(self._options.certificate, self._options.certificate_key)
        test = await asyncio.create_subprocess_exec(
            *self._command("-t", "-q"), stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        _, output = await test.communicate()
        if test.returncode != 0:
            raise ServeError(f"nginx rejects its configuration: {output.decode(errors='replace').strip()}")

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def _close_kept_connections(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        (self.folder / configuration.STOPPING).touch()
        while self._has_clients() and time.monotonic() < deadline:  # noqa: ASYNC110 - nginx sends no event
            await asyncio.sleep(0.1)

    def _has_clients(self) -> bool:
        """Return whether a client has an open connection."""
        assert self._process is not None
        ports = {port for _, port in self._options.listens.values()}
        with contextlib.suppress(psutil.NoSuchProcess):
            return any(
                connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port in ports
                for worker in psutil.Process(self._process.pid).children()
                for connection in worker.net_connections("tcp")
            )
        return False

    def _kill_workers(self) -> None:
        """Kill workers that outlive a killed master; they would keep serving."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def _has_children(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).children())
    except psutil.NoSuchProcess:
        return False


def _require_writable(log: Path) -> None:
    try:
        os.close(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644))
    except OSError as error:
        raise ServeError(
            f"--access-log {log}: cannot be opened ({error.strerror}). nginx reopens standard output by its path, "
            "which fails for a socket (systemd) or another user's terminal: name a file, or pipe the output to cat."
        ) from error
    # nginx reopens standard output. If it is a file, this program must append, or it would overwrite nginx's lines.
    fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | os.O_APPEND)
