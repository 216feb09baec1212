"""Tests of radserve.versions.scaling: the number of workers changes without the loss of a request."""

import asyncio

import pytest

from radserve.errors import ChangeError, ConflictError
from radserve.host.run_directory import RunDirectory
from radserve.torchserve import management
from radserve.versions import scaling as module
from radserve.versions.request_hold import RequestHold
from tests.radserve.versions.conftest import ADA, NAME, Disk, Service

pytestmark = pytest.mark.anyio


async def test_scaling_changes_the_declared_workers(service: Service) -> None:
    scaled = await service.version_manager.scale(NAME, "1.0.0", 3, ADA)
    assert (scaled.workers, scaled.ready) == (3, 3)
    assert service.version_manager.declared_versions(NAME)["1.0.0"].workers == 3
    assert service.audit == [("scale", "brightness 1.0.0: scaled from 1 to 3 workers.")]
    await service.version_manager.scale(NAME, "1.0.0", 3, ADA)
    assert len(service.audit) == 1


async def test_a_worker_that_does_not_start_leaves_the_declaration_unchanged(service: Service) -> None:
    service.torchserve.behavior.scale_status = 500
    with pytest.raises(ChangeError, match="2 workers"):
        await service.version_manager.scale(NAME, "1.0.0", 2, ADA)
    assert service.version_manager.declared_versions(NAME)["1.0.0"].workers == 1


@pytest.mark.parametrize("workers", [1, 3])
async def test_a_scaling_that_cannot_be_recorded_ends_no_worker(service: Service, disk: Disk, workers: int) -> None:
    await service.version_manager.register(NAME, "2.0.0", 2, ADA)
    before = list(service.torchserve.requests)
    disk.full = True
    with pytest.raises(ChangeError, match="not writable"):
        await service.version_manager.scale(NAME, "2.0.0", workers, ADA)
    assert service.version_manager.registered_version(NAME, "2.0.0").workers == 2
    assert [request for request in service.torchserve.requests[len(before) :] if request[0] == "PUT"] == []


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


async def test_workers_are_reduced_only_while_the_version_is_idle(proxied: Service, directory: RunDirectory) -> None:
    flag = directory.gates / NAME
    scaling = await proxied.begin_scaling("1.0.0")
    assert flag.exists()
    waiting = asyncio.create_task(proxied.forward())
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


async def test_silence_does_not_hold_requests(proxied: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_BUSY", 0.1)
    manager = proxied.version_manager
    await manager.scale(NAME, "1.0.0", 2, ADA)
    proxied.torchserve.behavior.delay = 10.0
    scaling = asyncio.create_task(manager.scale(NAME, "1.0.0", 1, ADA))
    await proxied.until(lambda: NAME in manager.scaling.hold)
    await asyncio.wait_for(proxied.forward(), 0.4)  # silence may last 0.5 s
    proxied.torchserve.behavior.delay = 0.0
    with pytest.raises(ConflictError, match="nothing was changed"):
        await scaling
    assert proxied.torchserve.models[NAME, "1.0.0"].workers == 2


def test_requests_are_held_until_torchserve_has_ended_the_worker(directory: RunDirectory) -> None:
    assert module._MAX_BUSY + management.SCALE_TIMEOUT < RequestHold(directory)._max_seconds < 60  # proxy_read_timeout
