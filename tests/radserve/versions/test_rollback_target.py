"""Tests of radserve.versions.rollback: its target is kept while it is needed, and unregistered after a failure."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from radserve.errors import ChangeError, ConflictError, VersionFailedError
from radserve.torchserve.registry import ModelVersion
from radserve.versions.rollback import roll_back
from tests.radserve.versions.conftest import ADA, NAME, Service

pytestmark = pytest.mark.anyio


async def start_unregistering(service: Service) -> asyncio.Task[object]:
    """Begin to unregister 1.0.0, and return once its requests are awaited."""
    task: asyncio.Task[object] = asyncio.create_task(service.version_manager.unregister(NAME, "1.0.0", ADA))
    await service.until(lambda: (NAME, "1.0.0") in service.unregistration)
    return task


async def test_a_rollback_keeps_a_version_that_is_being_unregistered(
    promoted: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = promoted.version_manager
    monkeypatch.setattr(promoted.unregistration, "settle", 60.0)
    unregistering = await start_unregistering(promoted)
    started = time.monotonic()
    await roll_back(manager, NAME, ADA)
    assert time.monotonic() - started < 5
    assert promoted.routed == {"1.0.0"}
    assert not (promoted.directory.routing / "closed" / NAME / "1.0.0").exists()
    with pytest.raises(ConflictError, match=r"brightness 1\.0\.0 stays registered: a rollback needs it"):
        await unregistering
    assert promoted.registered == {"1.0.0", "2.0.0"}
    assert [str(item) for item in manager.versions_with_traffic] == ["brightness 1.0.0"]


async def test_a_rollback_waits_for_torchserve_to_end_a_version_and_registers_it_again(promoted: Service) -> None:
    manager = promoted.version_manager
    unregister = promoted.registry.unregister
    begun, proceed = asyncio.Event(), asyncio.Event()

    async def slow(version: ModelVersion) -> None:
        begun.set()
        await proceed.wait()
        await unregister(version)

    promoted.registry.unregister = slow  # type: ignore[method-assign]
    unregistering = asyncio.create_task(manager.unregister(NAME, "1.0.0", ADA))
    await begun.wait()
    rollback = asyncio.create_task(roll_back(manager, NAME, ADA))
    await asyncio.sleep(0.1)
    assert not rollback.done()
    proceed.set()
    await asyncio.gather(rollback, unregistering)
    assert promoted.registered == {"1.0.0", "2.0.0"}
    assert promoted.routed == {"1.0.0"}


async def test_a_rollback_registers_a_version_again_whose_unregistration_had_no_response(
    promoted: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radserve.versions.unregistration._RETRY_SECONDS", 0.3)
    send = promoted.registry._management.unregister

    async def unanswered(name: str, version: str) -> None:
        monkeypatch.setattr(promoted.registry._management, "unregister", send)
        await send(name, version)
        raise httpx.ReadTimeout("no response")

    monkeypatch.setattr(promoted.registry._management, "unregister", unanswered)
    unregistering = asyncio.create_task(promoted.version_manager.unregister(NAME, "1.0.0", ADA))
    await promoted.until(lambda: promoted.registered == {"2.0.0"})
    await asyncio.sleep(0.1)
    await roll_back(promoted.version_manager, NAME, ADA)
    await unregistering
    assert promoted.registered == {"1.0.0", "2.0.0"}
    assert promoted.routed == {"1.0.0"}


async def test_a_rollback_keeps_a_version_whose_unregistration_torchserve_rejects(
    promoted: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def rejected(*_: str) -> None:
        begun.set()
        await asyncio.sleep(0.1)
        raise httpx.HTTPStatusError("500", request=httpx.Request("DELETE", "/"), response=httpx.Response(500))

    monkeypatch.setattr(promoted.registry._management, "unregister", rejected)
    unregistering = asyncio.create_task(promoted.version_manager.unregister(NAME, "1.0.0", ADA))
    await begun.wait()
    await asyncio.wait_for(roll_back(promoted.version_manager, NAME, ADA), 5)
    with pytest.raises(ConflictError):
        await unregistering
    assert promoted.routed == {"1.0.0"}


async def test_a_rollback_does_not_wait_forever_for_an_unregistration(
    promoted: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radserve.versions.unregistration._MAX_ATTEMPT", 0.2)
    begun = asyncio.Event()

    async def silent(*_: str) -> None:
        begun.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(promoted.registry._management, "unregister", silent)
    unregistering = asyncio.create_task(promoted.version_manager.unregister(NAME, "1.0.0", ADA))
    await begun.wait()
    with pytest.raises(ChangeError, match=r"unregistering it and does not respond"):
        await asyncio.wait_for(roll_back(promoted.version_manager, NAME, ADA), 5)
    assert promoted.routed == {"2.0.0"}
    unregistering.cancel()


async def test_a_version_whose_sample_fails_is_unregistered_all_the_same(
    promoted: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = promoted.version_manager
    monkeypatch.setattr(promoted.unregistration, "settle", 0.3)
    unregistering = await start_unregistering(promoted)
    promoted.torchserve.behavior.prediction_status = 500
    with pytest.raises(VersionFailedError):
        await roll_back(manager, NAME, ADA)
    with pytest.raises(ConflictError):
        await unregistering
    await promoted.until(lambda: promoted.registered == {"2.0.0"})


@pytest.mark.parametrize("registered", [True, False])
async def test_a_rollback_that_fails_leaves_no_version_registered(
    promoted: Service, registered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = promoted.version_manager
    await promoted.add("3.0.0")
    unregistering = await start_unregistering(promoted)
    if not registered:
        await unregistering
    commit = promoted.deployment_state.commit

    async def promote_first(*arguments: Any, **options: Any) -> None:
        monkeypatch.undo()
        await manager.promote(NAME, "3.0.0", ADA)
        await commit(*arguments, **options)

    monkeypatch.setattr(promoted.deployment_state, "commit", promote_first)
    with pytest.raises(ConflictError, match="changed meanwhile"):
        await roll_back(manager, NAME, ADA)
    await asyncio.gather(unregistering, return_exceptions=True)  # rejected, unless it was faster than the rollback
    await promoted.until(lambda: promoted.registered == {"2.0.0", "3.0.0"})
