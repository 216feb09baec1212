"""Rate limits, with a real Redis."""

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.server import free_ports
from gateway import rate_limit
from gateway.access.authentication import CredentialAuthenticator
from gateway.errors import SettingsError, TooManyRequestsError
from gateway.metrics import RATE
from gateway.rate_limit import AuthFailureLimiter, RateLimiter
from gateway.settings import Settings
from radserve.auth import key_file
from radserve.auth.api_keys import Role
from radserve.auth.key_check import Keyring
from tests.gateway.application import client, gateway


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a Redis with a password."""
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server")
    (port,) = free_ports(1)
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--requirepass", "secret", "--save", ""]
    with subprocess.Popen([*command, "--dir", str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert any(b"Ready to accept" in line for line in process.stdout)
        yield f"redis://:secret@127.0.0.1:{port}/0", process
        process.terminate()


async def allowed(counted: RateLimiter, caller: str, requests: int) -> int:
    """Return the number of requests that pass."""
    count = 0
    for _ in range(requests):
        try:
            await counted.count(caller)
        except TooManyRequestsError:
            continue
        count += 1
    return count


def test_callers_are_limited_separately_with_retry_after() -> None:
    async def ask() -> None:
        counted = RateLimiter(Settings.read(rate="5/minute"))
        assert await allowed(counted, "a", 8) == 5
        assert await allowed(counted, "b", 3) == 3
        with pytest.raises(TooManyRequestsError, match="a exceeded the limit of 5 per 1 minute") as caught:
            await counted.count("a")
        assert 1 <= int(caught.value.headers["Retry-After"]) <= 60

    asyncio.run(ask())


def test_gateways_share_limits_in_redis(redis: tuple[str, subprocess.Popen[bytes]]) -> None:
    async def ask() -> None:
        settings = Settings.read(rate="5/minute", rate_storage=redis[0])
        one, other = RateLimiter(settings), RateLimiter(settings)
        assert await allowed(one, "a", 3) == 3
        assert await allowed(other, "a", 5) == 2
        await one.close()
        await other.close()

    asyncio.run(ask())


def test_unavailable_storage_disables_limits(
    redis: tuple[str, subprocess.Popen[bytes]], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, process = redis

    async def ask() -> None:
        counted = RateLimiter(Settings.read(rate="5/minute", rate_storage=url))
        assert await allowed(counted, "a", 5) == 5
        process.terminate()
        process.wait()
        assert await allowed(counted, "a", 50) == 50
        monkeypatch.setattr(rate_limit, "_PAUSE", 0.0)
        assert await allowed(counted, "a", 5) == 5
        await counted.close()

    before = RATE.labels(outcome="uncounted")._value.get()
    asyncio.run(ask())
    assert ["limits disabled" in record.message for record in caplog.records] == [True]
    assert "secret" not in caplog.text
    assert RATE.labels(outcome="uncounted")._value.get() - before == 55


@pytest.mark.parametrize("wrong", [{"rate": "many"}, {"rate_storage": "mysql://x"}, {"rate_storage": "redis://h:port"}])
def test_invalid_rate_or_storage_is_a_settings_error(wrong: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="RADSERVE_GATEWAY_RATE"):
        RateLimiter(Settings.read(**wrong))


def test_rate_limit_returns_429_and_exempts_probes() -> None:
    async def ask() -> None:
        async with client(gateway(rate_limiter=RateLimiter(Settings.read(rate="2/minute")))) as http:
            codes = [(await http.get("/api/models")).status_code for _ in range(3)]
            assert codes == [200, 200, 429]
            response = await http.get("/api/models")
            assert response.json()["title"] == "Too many requests"
            assert int(response.headers["retry-after"]) >= 1
            for path in ("/live", "/ready", "/"):
                assert {(await http.get(path)).status_code for _ in range(5)} == {200}

    asyncio.run(ask())


def test_failed_authentications_are_limited_per_address(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    text = key_file.create(file, "ward-7", [Role.PREDICT])

    async def ask() -> None:
        app = gateway(CredentialAuthenticator(Keyring.open(str(file))), auth_failures=AuthFailureLimiter(20))
        async with client(app, address="203.0.113.7") as http:
            wrong = [(await http.get("/api/models", headers={"X-API-Key": "guess"})).status_code for _ in range(25)]
            assert wrong == [401] * 20 + [429] * 5
            assert (await http.get("/api/models", headers={"X-API-Key": text})).status_code == 200
        async with client(app, address="203.0.113.8") as http:
            assert (await http.get("/api/models")).status_code == 401

    asyncio.run(ask())


def test_networks_are_limited_as_one_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = AuthFailureLimiter(20)
    for number in range(20):
        wrong.count(f"2001:db8::{number:x}")
    with pytest.raises(TooManyRequestsError):
        wrong.count("2001:db8::ffff")
    wrong.count("2001:db8:0:1::1")
    monkeypatch.setattr(rate_limit, "_MAX_NETWORKS", 10)
    for number in range(100):
        wrong.count(f"10.0.0.{number}")
    assert len(wrong._windows) <= 12
