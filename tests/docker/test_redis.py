"""docker/redis/redis.conf with a real redis-server."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from benchmarks.server import free_ports
from tests.docker.compose import COMPOSE, make, run
from tests.fake_supervisor import await_true
from tests.server import ROOT

CONFIGURATION = ROOT / "docker" / "redis" / "redis.conf"


@dataclass(frozen=True)
class Redis:
    """A running Redis."""

    port: int
    secrets: Path
    data: Path

    @property
    def password(self) -> str:
        return (self.secrets / "redis_password").read_text()

    def ask(self, *command: str, password: str | None = None) -> str:
        """Send a command with `redis-cli`."""
        variables = {"REDISCLI_AUTH": password} if password is not None else {}
        process = run(["redis-cli", "-p", str(self.port), *command], variables)
        return (process.stdout + process.stderr).strip()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """Start Redis with the configuration file, with other paths and another port."""
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server: scripts/setup-system")
    folder = tmp_path_factory.mktemp("redis")
    secrets, data = folder / "secrets", folder / "data"
    created = make(secrets)
    assert created.returncode == 0, created.stderr
    data.mkdir()
    (port,) = free_ports(1)
    here = ["--port", str(port), "--bind", "127.0.0.1", "--aclfile", str(secrets / "redis_users.acl")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(["redis-server", str(CONFIGURATION), *here], stdout=log, stderr=log, cwd=data)
        try:
            started = Redis(port, secrets, data)
            deadline = time.monotonic() + 20
            while "refused" in started.ask("PING"):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.05)
            yield started
        finally:
            process.terminate()
            process.wait(timeout=20)


@pytest.mark.parametrize("command", ["PING", "SET a 1", "GET a", "CONFIG GET *", "ACL LIST", "INFO"])
def test_command_without_password_is_rejected(redis: Redis, command: str) -> None:
    assert redis.ask(*command.split()).startswith("NOAUTH")


def test_wrong_password_is_rejected(redis: Redis) -> None:
    answer = redis.ask("PING", password="0" * len(redis.password))
    assert "WRONGPASS" in answer
    assert "PONG" not in answer


def test_results_are_stored_until_they_expire(redis: Redis) -> None:
    assert redis.ask("SET", "a", "1", "EX", "60", password=redis.password) == "OK"
    assert redis.ask("GET", "a", password=redis.password) == "1"
    assert 0 < int(redis.ask("TTL", "a", password=redis.password)) <= 60


@pytest.mark.parametrize(
    "command",
    ["FLUSHALL", "KEYS *", "CONFIG SET appendonly no", "SHUTDOWN NOSAVE", "ACL LIST", "REPLICAOF 127.0.0.1 1"],
)
def test_administrative_command_is_rejected_with_the_password(redis: Redis, command: str) -> None:
    assert redis.ask(*command.split(), password=redis.password).startswith("NOPERM")


@pytest.mark.parametrize(("stored", "status"), [("redis_password", 0), ("grafana_password", 1)])
def test_healthcheck_reports_whether_redis_responds(redis: Redis, stored: str, status: int) -> None:
    _, command = yaml.safe_load(COMPOSE.read_text())["services"]["redis"]["healthcheck"]["test"]
    here = command.replace("$$", "$").replace("/run/secrets/redis_password", str(redis.secrets / stored))
    process = run(["sh", "-c", here.replace("redis-cli", f"redis-cli -p {redis.port}")], {})
    assert process.returncode == status, process.stdout + process.stderr


def test_writes_are_in_the_append_only_log(redis: Redis) -> None:
    assert redis.ask("SET", "kept", "here", password=redis.password) == "OK"
    await_true(lambda: any(b"kept" in path.read_bytes() for path in redis.data.rglob("*.aof")))


def test_full_memory_rejects_writes_and_keeps_data(redis: Redis) -> None:
    assert redis.ask("SET", "first", "1", password=redis.password) == "OK"
    try:
        for name in ("big", "bigger"):
            redis.ask("SETRANGE", name, "140000000", "x", password=redis.password)
        assert redis.ask("SET", "last", "1", password=redis.password).startswith("OOM")
        assert redis.ask("GET", "first", password=redis.password) == "1"
    finally:
        redis.ask("DEL", "big", "bigger", password=redis.password)
