"""Real redis-server for tests with the configuration of docker/redis: password, protected mode, no admin commands."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks.server import free_ports
from tests.docker.compose import make, run
from tests.server import ROOT

CONFIGURATION = ROOT / "docker" / "redis" / "redis.conf"


@dataclass
class Redis:
    """A Redis server that can be stopped and restarted with its data."""

    folder: Path
    port: int
    options: tuple[str, ...] = ()
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def password(self) -> str:
        return (self.folder / "secrets" / "redis_password").read_text()

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def ask(self, *command: str) -> str:
        """Run a command through `redis-cli`."""
        done = run(["redis-cli", "-p", str(self.port), *command], {"REDISCLI_AUTH": self.password})
        return (done.stdout + done.stderr).strip()

    def start(self) -> None:
        users = str(self.folder / "secrets" / "redis_users.acl")
        local = ["--port", str(self.port), "--bind", "127.0.0.1", "--aclfile", users, *self.options]
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        with (self.folder / "log").open("a") as log:
            command = ["redis-server", str(CONFIGURATION), *local]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=data)
        deadline = time.monotonic() + 20
        while self.ask("PING") != "PONG":
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=20)
        self._process = None

    def send(self, number: int) -> None:
        """Send a signal; a stopped (SIGSTOP) server accepts connections and does not respond."""
        assert self._process is not None
        self._process.send_signal(number)


@contextmanager
def redis(folder: Path, *options: str) -> Iterator[Redis]:
    """Run a server with additional options."""
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server: scripts/setup-system")
    secrets = make(folder / "secrets")
    assert secrets.returncode == 0, secrets.stderr
    (port,) = free_ports(1)
    started = Redis(folder, port, options)
    started.start()
    try:
        yield started
    finally:
        started.stop()
