"""nginx as a child process: start, restart, certificate reload, drain and stop."""

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import psutil
from prometheus_client import Counter

from radserve.errors import ServeError
from radserve.host import ports
from radserve.host.background import observe
from radserve.host.environment import inherited_environment
from radserve.host.process import die_with_parent
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


@dataclass(frozen=True)
class _Run:
    """A master of nginx and its workers; the relay of their log ends when the last of them exits."""

    master: asyncio.subprocess.Process
    log: asyncio.Task[None]

    def signal(self, number: signal.Signals) -> None:
        """Signal all processes, also workers whose master is dead."""
        if self.master.returncode is None or not self.log.done():  # else the process group may be another one
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.master.pid, number)


class Nginx:
    """nginx, restarted when it dies; `folder` is created for all its files.

    This program opens the listening sockets, and each nginx inherits them. So when a master is killed, its workers
    serve until a new one runs, and then finish their requests: no connection is refused or cut.
    """

    def __init__(self, options: ProxyOptions, upstreams: Upstreams) -> None:
        self._options = options
        self._upstreams = upstreams
        self._resources = contextlib.ExitStack()  # locks, files and sockets
        self._locks: list[int] = []
        self._listeners: list[socket.socket] = []
        self._cache: Path | None = None
        self._runs: list[_Run] = []  # the current one is the last
        self._starting = asyncio.Lock()  # held while a master starts; a stop cancels a restart
        self._stopping = asyncio.Event()
        self._reloads: set[asyncio.Task[None]] = set()  # the event loop holds only weak references to tasks
        directory = upstreams.run_directory
        self.folder = directory.local_proxy if options.keyless else directory.proxy
        self._configuration = self.folder / "nginx.conf"
        self._stopping_flag = self.folder / configuration.STOPPING

    async def start(self) -> None:
        """Take the lock, listen, check the certificate and the configuration, and start."""
        async with self._starting:
            resources = self._resources
            self._listeners = []
            self._locks = [resources.enter_context(await self._locked()).fileno()]
            resources.callback(shutil.rmtree, self.folder, ignore_errors=True)
            shutil.rmtree(self.folder, ignore_errors=True)  # of a killed run
            self.folder.mkdir(mode=0o700)
            cache = resources.enter_context(key_cache.created(self.folder))
            if cache is not None:
                self._cache = cache.folder
                self._locks.append(cache.lock)
            for option, (host, port) in self._options.listens.items():
                listener = resources.enter_context(ports.listen(option, host, port))
                listener.settimeout(0.0)  # as nginx's own: a worker must not wait when another one was faster
                self._listeners.append(listener)
            # Once: its limits depend on the free space, which the bodies of an earlier run may occupy at a restart.
            self._configure()
            await self._start()

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

    async def _start(self) -> None:
        """Start nginx with the files and sockets of this program; an earlier run may still use them."""
        await self._check()
        if self._stopping.is_set():
            return
        self._show_certificate()
        listeners = [listener.fileno() for listener in self._listeners]
        # A plain pipe: with asyncio's, waiting for nginx would mean waiting until its last worker closed the pipe.
        read, write = os.pipe()
        try:
            master = await asyncio.create_subprocess_exec(
                *self._command(),
                # nginx's protocol for upgrades: sockets of the same addresses are used instead of new ones.
                env=inherited_environment() | {"NGINX": "".join(f"{listener};" for listener in listeners)},
                stdin=asyncio.subprocess.DEVNULL,
                stderr=write,
                # In its own session, Ctrl-C does not reach it, and its workers form one process group.
                start_new_session=True,
                preexec_fn=die_with_parent,
                pass_fds=[*self._locks, *listeners],
            )
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        earlier = [run for run in self._runs if not run.log.done()]
        self._runs = [*earlier, _Run(master, asyncio.create_task(nginx_log.relay(read)))]
        # Before it has workers, nginx does not respond.
        while master.returncode is None and not _has_children(master.pid):  # noqa: ASYNC110 - nginx has no event
            await asyncio.sleep(0.01)
        if master.returncode is not None:
            raise ServeError(f"nginx exited with code {master.returncode} at start; see the log above.")
        logger.info("proxy listening at %s", self._options.url)

    async def wait(self) -> int:
        """Wait until nginx's master exits; return its exit code as a shell reports it."""
        code = await self._runs[-1].master.wait()
        return code if code >= 0 else 128 - code

    async def keep_running(self) -> int:
        """Restart nginx whenever it dies; return its exit code once it is stopped or keeps dying."""
        restarts = 0
        while True:
            started = time.monotonic()
            code = await self.wait()
            restarts = 0 if time.monotonic() - started >= _STABLE else restarts
            if self._stopping.is_set() or restarts == _RESTARTS:
                self._close_listeners()
                return code
            logger.error("nginx exited with code %d; restarting it", code)
            await asyncio.sleep(_FIRST_PAUSE * 2**restarts if restarts else 0.0)
            restarts += 1
            RESTARTS.inc()
            try:
                await self._restart()
            except (ServeError, OSError) as error:
                logger.error("nginx not restarted: %s", error)  # noqa: TRY400 - the message is complete

    async def _restart(self) -> None:
        """Start nginx; workers of earlier runs serve until then, and then finish their requests."""
        async with self._starting:
            await self._start()
            if self._stopping.is_set():
                return
        *earlier, _ = self._runs
        await self._close_kept_connections(earlier, _FAREWELL)
        for run in earlier:
            run.signal(signal.SIGQUIT)
        if not self._stopping.is_set():
            self._stopping_flag.unlink(missing_ok=True)

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
        async with self._starting:  # a master that does not handle the signal yet would be killed by it
            try:
                await self._check()
            except ServeError as error:
                logger.error("certificate not reloaded: %s", error)  # noqa: TRY400 - the message is complete
                return
            for run in self._runs[-1:]:
                with contextlib.suppress(ProcessLookupError):
                    run.master.send_signal(signal.SIGHUP)
        self._show_certificate()
        logger.info("certificate reloaded")

    async def drain(self, seconds: float) -> bool:
        """Stop accepting connections and finish requests in flight; return False after `seconds`.

        Before that, responses close the connections that clients keep, because a request that is sent on one just when
        nginx closes it is lost.
        """
        start = time.monotonic()
        await self._end_restarts(min(_STOP_TIMEOUT, seconds / 2))
        await self._close_kept_connections(self._runs, min(_FAREWELL, seconds / 2))
        self._close_listeners()
        for run in self._runs:
            run.signal(signal.SIGQUIT)
        return await self._exited(max(0.0, seconds - (time.monotonic() - start)))

    async def stop(self) -> None:
        """Stop nginx immediately if it still runs, and remove its files."""
        await self._end_restarts(_STOP_TIMEOUT)
        for number in (signal.SIGTERM, signal.SIGKILL):
            for run in self._runs:
                run.signal(number)
            await self._exited(_STOP_TIMEOUT)
        self._resources.close()

    async def _end_restarts(self, seconds: float) -> None:
        """Wait for a restart in progress, or until it is so slow that it will notice the stop; none begins later."""
        self._stopping.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._starting:
                pass

    def _close_listeners(self) -> None:
        """Refuse connections, which would wait for a server that accepts nothing."""
        for listener in self._listeners:
            listener.close()

    async def _exited(self, seconds: float) -> bool:
        """Wait until all processes of nginx have exited; return False after `seconds`."""
        processes = [task for run in self._runs for task in (run.log, asyncio.create_task(run.master.wait()))]
        return not processes or not (await asyncio.wait(processes, timeout=seconds))[1]

    def _configure(self) -> None:
        """Write the configuration."""
        if self._cache is None:
            logger.warning("no tmpfs available: keys are not cached, so each request calls the supervisor")
        text = configuration.render(self._options, self._upstreams, self.folder, self._cache)
        self._configuration.write_text(text, encoding="utf-8")
        _require_writable(self._options.access_log)

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

    async def _close_kept_connections(self, runs: Sequence[_Run], seconds: float) -> None:
        """Close connections with their next response, until clients have closed all of them."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(OSError, psutil.Error):  # nginx finishes its requests without it too
            self._stopping_flag.touch()
            while self._has_clients(runs) and time.monotonic() < deadline:  # noqa: ASYNC110 - nginx sends no event
                await asyncio.sleep(0.1)

    def _has_clients(self, runs: Sequence[_Run]) -> bool:
        """Return whether a client has an open connection."""
        groups = {run.master.pid for run in runs}
        listening = {port for _, port in self._options.listens.values()}
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getpgid(process.pid) in groups and any(
                    connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port in listening
                    for connection in process.net_connections("tcp")
                ):
                    return True
        return False


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
