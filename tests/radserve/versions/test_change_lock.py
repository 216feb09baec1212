"""Tests of radserve.versions.change_lock: which changes are admitted."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from radserve.errors import ConflictError, NotReadyError, RadServeError
from radserve.schema.rollout import RolloutSpec
from radserve.versions.deployment_file import parse
from radserve.versions.rollback import roll_back
from radserve.versions.stored_state import StateFolder
from tests.radserve.versions.conftest import ADA, NAME, Service

pytestmark = pytest.mark.anyio

SPLIT = parse(
    f"models: {{{NAME}: {{versions: {{1.0.0: {{share: 60}}, 2.0.0: {{share: 40}}, 3.0.0: {{share: 0}}}}}}}}", "test"
)


async def test_changes_of_a_model_are_made_one_after_the_other(service: Service) -> None:
    service.torchserve.behavior.delay = 0.05
    results = await asyncio.gather(
        *(service.version_manager.register(NAME, "2.0.0", None, ADA) for _ in range(3)), return_exceptions=True
    )
    assert sum(isinstance(result, ConflictError) for result in results) == 2
    assert service.registered == {"1.0.0", "2.0.0"}


@pytest.mark.parametrize("change", ["promote", "split", "rollout"])
async def test_a_change_that_was_requested_before_a_rollback_does_not_undo_it(promoted: Service, change: str) -> None:
    manager = promoted.version_manager
    await promoted.add("3.0.0")
    async with manager.lock.exclusive_change(NAME):
        changes: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
            "promote": lambda: manager.promote(NAME, "3.0.0", ADA),
            "split": lambda: manager.apply(SPLIT, ADA),
            "rollout": lambda: promoted.rollouts.start(NAME, RolloutSpec(version="3.0.0"), ADA),
        }
        queued = asyncio.create_task(changes[change]())
        await asyncio.sleep(0.1)
        await roll_back(manager, NAME, ADA)
    with pytest.raises(ConflictError, match="rolled back meanwhile"):
        await queued
    assert promoted.shares == {"1.0.0": 100, "2.0.0": 0, "3.0.0": 0}
    assert promoted.routed == {"1.0.0"}
    assert [item.version for item in promoted.stored.quarantine] == ["2.0.0"]
    await manager.promote(NAME, "3.0.0", ADA)


async def test_changes_are_rejected_during_a_rollout(proxied: Service) -> None:
    rollout = await proxied.rollouts.start(NAME, RolloutSpec(version="2.0.0"), ADA)
    await proxied.until(lambda: rollout.share == 5)
    wanted = parse(f"models: {{{NAME}: {{versions: {{2.0.0: {{}}}}}}}}", "test")
    changes = [
        proxied.version_manager.promote(NAME, "2.0.0", ADA),
        proxied.version_manager.unregister(NAME, "2.0.0", ADA),
        proxied.version_manager.scale(NAME, "1.0.0", 2, ADA),
        proxied.version_manager.apply(wanted, ADA),
    ]
    for change in changes:
        with pytest.raises(RadServeError, match=r"a rollout of 2\.0\.0 is in progress; abort it first"):
            await change


async def test_a_change_that_waits_is_rejected_when_the_server_stops(service: Service) -> None:
    async with service.version_manager.lock.exclusive_change(NAME):
        waiting = asyncio.create_task(service.version_manager.register(NAME, "2.0.0", None, ADA))
        await asyncio.sleep(0.1)
        await service.version_manager.stop()
    with pytest.raises(NotReadyError, match="accepts no changes"):
        await waiting
    assert service.registered == {"1.0.0"}


async def test_no_change_is_accepted_before_the_server_is_ready_or_while_it_stops(service: Service) -> None:
    await service.version_manager.stop()
    for change in (
        service.version_manager.register(NAME, "2.0.0", None, ADA),
        service.version_manager.promote(NAME, "1.0.0", ADA),
        service.rollouts.start(NAME, RolloutSpec(version="2.0.0"), ADA),
    ):
        with pytest.raises(NotReadyError, match="accepts no changes"):
            await change


async def test_no_change_is_accepted_while_another_server_uses_the_state_folder(service: Service) -> None:
    other = StateFolder(service.state_folder)
    other.lock()
    with pytest.raises(ConflictError, match="another server uses this state folder"):
        await service.version_manager.register(NAME, "2.0.0", None, ADA)
    other.release()
    await service.version_manager.register(NAME, "2.0.0", None, ADA)
