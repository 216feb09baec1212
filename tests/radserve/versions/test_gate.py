"""Tests of radserve.versions.gate: requests wait while TorchServe ends a worker."""

import asyncio
from pathlib import Path

import httpx
import pytest

from radserve.errors import ChangeError, ConflictError, VersionFailedError
from radserve.host.run_directory import RunDirectory
from radserve.torchserve import management
from radserve.torchserve.registry import ModelVersion
from radserve.versions import version_manager as module
from radserve.versions.gate import Gate
from tests.radserve.versions.conftest import ADA, NAME, Service

pytestmark = pytest.mark.anyio


async def ask(service: Service) -> str:
    """Ask as nginx does; return where it forwards the request to."""
    return str((await service.client.post(f"/gate/{NAME}")).headers["x-accel-redirect"])


async def test_an_open_gate_lets_requests_pass_at_once(service: Service) -> None:
    assert await ask(service) == "@torchserve"


async def test_requests_wait_while_the_gate_is_closed(service: Service) -> None:
    async with service.version_manager.gate.closed(NAME):
        waiting = asyncio.create_task(ask(service))
        await asyncio.sleep(0.1)
        assert not waiting.done()
    assert await waiting == "@torchserve"


async def test_a_gate_does_not_stay_closed(directory: RunDirectory, service: Service) -> None:
    service.version_manager.gate = Gate(directory, max_seconds=0.1)
    async with service.version_manager.gate.closed(NAME) as opened:
        await asyncio.wait_for(opened.wait(), 5)


async def test_workers_are_reduced_only_while_the_version_is_idle(proxied: Service, directory: RunDirectory) -> None:
    manager, flag = proxied.version_manager, directory.gates / NAME
    await manager.scale(NAME, "1.0.0", 2, ADA)
    proxied.torchserve.behavior.pending = 1
    scaling = asyncio.create_task(manager.scale(NAME, "1.0.0", 1, ADA))
    await proxied.until(flag.exists)
    await proxied.until(lambda: NAME in manager.gate._closed)
    waiting = asyncio.create_task(ask(proxied))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    assert proxied.torchserve.models[NAME, "1.0.0"].workers == 2
    proxied.torchserve.behavior.pending = 0
    assert (await scaling).workers == 1
    assert await waiting == "@torchserve"
    assert not flag.exists()


async def test_a_version_that_stays_busy_keeps_its_workers(proxied: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_BUSY", 0.2)
    manager = proxied.version_manager
    await manager.scale(NAME, "1.0.0", 2, ADA)
    proxied.torchserve.behavior.pending = 1
    with pytest.raises(ConflictError, match=r"busy for 0\.2 s; nothing was changed"):
        await manager.scale(NAME, "1.0.0", 1, ADA)
    assert proxied.torchserve.models[NAME, "1.0.0"].workers == 2
    assert manager.declared_versions(NAME)["1.0.0"].workers == 2


async def test_workers_that_started_during_a_failed_change_are_ended_only_while_the_version_is_idle(
    proxied: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radserve.torchserve.registry._START_TIMEOUT", 0.3)
    torchserve, manager = proxied.torchserve, proxied.version_manager
    torchserve.behavior.ready = 2  # of three
    torchserve.behavior.pending = 1
    scaling = asyncio.create_task(manager.scale(NAME, "1.0.0", 3, ADA))
    await proxied.until(lambda: NAME in manager.gate._closed)
    await asyncio.sleep(0.2)
    assert torchserve.models[NAME, "1.0.0"].workers == 3
    torchserve.behavior.pending = 0
    with pytest.raises(VersionFailedError, match="not all of 3 workers are ready"):
        await scaling
    assert torchserve.models[NAME, "1.0.0"].workers == 1
    assert manager.registered_version(NAME, "1.0.0").workers == 1
    assert manager.declared_versions(NAME)["1.0.0"].workers == 1


async def test_a_busy_version_keeps_a_failed_worker_until_it_is_idle_and_the_reason_is_that_of_the_failure(
    proxied: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_BUSY", 0.1)
    monkeypatch.setattr(module, "_EXCESS_SECONDS", 0.3)
    proxied.torchserve.behavior.dying = True
    proxied.torchserve.behavior.pending = 1
    manager = proxied.version_manager
    with pytest.raises(VersionFailedError, match="a worker exited before it was ready"):
        await manager.scale(NAME, "1.0.0", 2, ADA)
    assert manager.declared_versions(NAME)["1.0.0"].workers == 1
    assert manager.problems == ["brightness 1.0.0: a failed change has left workers."]
    proxied.torchserve.behavior.dying, proxied.torchserve.behavior.pending = False, 0
    await proxied.until(lambda: manager.problems == [])
    assert manager.registered_version(NAME, "1.0.0").workers == 1
    assert proxied.torchserve.models[NAME, "1.0.0"].workers == 1


async def test_more_workers_are_stored_only_once_they_are_ready(proxied: Service) -> None:
    manager = proxied.version_manager
    proxied.torchserve.behavior.ready = 1
    scaling = asyncio.create_task(manager.scale(NAME, "1.0.0", 2, ADA))
    await proxied.until(lambda: proxied.torchserve.models[NAME, "1.0.0"].workers == 2)
    assert manager.declared_versions(NAME)["1.0.0"].workers == 1
    assert proxied.stored.versions(NAME) == {}
    proxied.torchserve.behavior.ready = None
    await scaling
    assert proxied.stored.versions(NAME)["1.0.0"].workers == 2


async def test_more_workers_that_cannot_be_stored_are_ended(proxied: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        monkeypatch.undo()
        raise ChangeError("no space")

    scale = proxied.registry.scale

    async def fill(version: ModelVersion, workers: int) -> ModelVersion:
        monkeypatch.setattr(proxied.deployment_state.folder, "write", full)
        return await scale(version, workers)

    monkeypatch.setattr(proxied.registry, "scale", fill)
    with pytest.raises(ChangeError, match="Failed and reverted: no space"):
        await proxied.version_manager.scale(NAME, "1.0.0", 2, ADA)
    assert proxied.torchserve.models[NAME, "1.0.0"].workers == 1
    assert proxied.version_manager.registered_version(NAME, "1.0.0").workers == 1
    assert proxied.stored.versions(NAME)["1.0.0"].workers == 1


async def test_silence_does_not_outlast_the_gate(proxied: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_BUSY", 0.1)
    manager = proxied.version_manager
    await manager.scale(NAME, "1.0.0", 2, ADA)
    proxied.torchserve.behavior.delay = 10.0
    scaling = asyncio.create_task(manager.scale(NAME, "1.0.0", 1, ADA))
    await proxied.until(lambda: NAME in manager.gate._closed)
    await asyncio.wait_for(ask(proxied), 0.4)  # silence may last 0.5 s
    proxied.torchserve.behavior.delay = 0.0
    with pytest.raises(ConflictError, match="nothing was changed"):
        await scaling
    assert proxied.torchserve.models[NAME, "1.0.0"].workers == 2


async def test_a_response_that_comes_in_pieces_does_not_prolong_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(management, "SCALE_TIMEOUT", 0.3)

    ended = asyncio.Event()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0.05)
        ended.set()

    directory = RunDirectory(tmp_path)
    server = await asyncio.start_unix_server(answer, directory.management)
    client = management.Management(directory)
    with pytest.raises(httpx.ReadTimeout):
        await asyncio.wait_for(client.scale(NAME, "1.0.0", 1), 2)
    await client.close()
    await ended.wait()
    server.close()


def test_the_gate_stays_closed_until_torchserve_has_ended_the_worker(directory: RunDirectory) -> None:
    assert module._MAX_BUSY + management.SCALE_TIMEOUT < Gate(directory)._max_seconds < 60  # proxy_read_timeout
