"""Tests of radserve.versions.unregistration."""

import asyncio
import errno
import os

import httpx
import pytest

from radserve.torchserve.registry import ModelVersion
from radserve.versions import unregistration
from tests.radserve.versions.conftest import ADA, NAME, Service

pytestmark = pytest.mark.anyio


@pytest.fixture
async def candidate(service: Service) -> ModelVersion:
    return await service.version_manager.register(NAME, "2.0.0", None, ADA)


async def test_a_version_stays_until_its_requests_are_answered(service: Service, candidate: ModelVersion) -> None:
    service.torchserve.behavior.pending = 1
    task = service.unregistration.start(candidate)
    assert candidate.pair in service.unregistration
    await asyncio.sleep(0.2)
    assert service.registered == {"1.0.0", "2.0.0"}
    service.torchserve.behavior.pending = 0
    await task
    assert service.registered == {"1.0.0"}
    assert candidate.pair not in service.unregistration


async def test_a_version_that_stays_busy_is_unregistered_after_the_patience(
    service: Service, candidate: ModelVersion, caplog: pytest.LogCaptureFixture
) -> None:
    service.torchserve.behavior.pending = 1
    await service.unregistration.start(candidate)
    assert service.registered == {"1.0.0"}
    assert "busy for 0.5 s, longer than clients wait; unregistered" in caplog.text


async def test_clients_cannot_name_a_version_that_is_being_unregistered(
    service: Service, candidate: ModelVersion
) -> None:
    closed = service.directory.routing / "closed" / NAME / "2.0.0"
    task = service.unregistration.start(candidate)
    await service.until(closed.exists)
    await task
    assert not closed.exists()


async def test_behind_a_proxy_a_version_stays_for_requests_that_are_on_their_way(
    proxied: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = await proxied.version_manager.register(NAME, "2.0.0", None, ADA)
    monkeypatch.setattr(proxied.unregistration, "settle", 0.4)
    task = proxied.unregistration.start(candidate)
    await asyncio.sleep(0.3)
    assert proxied.registered == {"1.0.0", "2.0.0"}
    await task
    assert proxied.registered == {"1.0.0"}


async def test_a_failure_is_logged_and_tried_again_while_the_version_stays_closed(
    service: Service, candidate: ModelVersion, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unregistration, "_RETRY_SECONDS", 0.05)
    service.torchserve.behavior.status = 500
    task = service.unregistration.start(candidate)
    await service.until(lambda: "brightness 2.0.0: not unregistered, tried again" in caplog.text)
    assert (service.directory.routing / "closed" / NAME / "2.0.0").exists()
    assert candidate.pair in service.unregistration
    service.torchserve.behavior.status = None
    await task
    assert service.registered == {"1.0.0"}


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("step", ["radserve.proxy.traffic_split.write", "radserve.torchserve.registry.any_busy"])
async def test_a_full_run_directory_delays_an_unregistration(
    service: Service, candidate: ModelVersion, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unregistration, "_RETRY_SECONDS", 0.05)
    with monkeypatch.context() as patch:
        patch.setattr(step, full)
        task = service.unregistration.start(candidate)
        await asyncio.sleep(0.3)
        assert candidate.pair in service.unregistration
        assert service.registered == {"1.0.0", "2.0.0"}
    await task
    assert service.registered == {"1.0.0"}


async def test_a_default_version_that_cannot_be_set_does_not_keep_another_version(
    service: Service, candidate: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: ModelVersion) -> None:
        raise httpx.ReadTimeout("no response")

    monkeypatch.setattr(service.registry, "make_default", fail)
    service.deployment_state.routes._defaults.clear()
    await service.unregistration.start(candidate)
    assert service.registered == {"1.0.0"}


async def test_a_version_that_torchserve_does_not_hold_is_forgotten(service: Service, candidate: ModelVersion) -> None:
    del service.torchserve.models[candidate.pair]
    await service.unregistration.start(candidate)
    assert [str(item) for item in service.registry] == ["brightness 1.0.0"]


async def test_a_stopping_server_does_not_wait(service: Service, candidate: ModelVersion) -> None:
    service.torchserve.behavior.pending = 1
    task = service.unregistration.start(candidate)
    await asyncio.sleep(0)
    await service.unregistration.stop()
    assert task.cancelled()


async def test_a_version_that_was_the_default_is_set_again_after_a_new_registration(
    service: Service, candidate: ModelVersion
) -> None:
    manager = service.version_manager
    await manager.promote(NAME, "2.0.0", ADA)
    await manager.unregister(NAME, "1.0.0", ADA)
    await manager.register(NAME, "1.0.0", None, ADA)
    await manager.promote(NAME, "1.0.0", ADA)
    await manager.unregister(NAME, "2.0.0", ADA)
    assert service.torchserve.defaults == {NAME: "1.0.0"}


async def test_an_unregistration_in_progress_is_not_started_again(service: Service, candidate: ModelVersion) -> None:
    service.torchserve.behavior.pending = 1
    task = service.unregistration.start(candidate)
    assert service.unregistration.start(candidate) is task
    assert await service.unregistration.cancel(candidate.pair)
    service.torchserve.behavior.pending = 0
    await asyncio.sleep(0.3)
    assert service.registered == {"1.0.0", "2.0.0"}
