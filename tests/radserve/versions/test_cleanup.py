"""Tests of radserve.versions.cleanup: failed changes leave nothing behind."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from radserve.errors import ChangeError, ConflictError, VersionFailedError
from radserve.schema.rollout import RolloutSpec
from radserve.torchserve.registry import ModelVersion
from radserve.versions import scaling as module
from radserve.versions.rollback import roll_back
from tests.radserve.minimal_archive import write_archive
from tests.radserve.versions.conftest import ADA, NAME, Service

pytestmark = pytest.mark.anyio


async def test_a_version_whose_failed_registration_could_not_be_undone_is_unregistered_later(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.torchserve.behavior.dying = True
    with monkeypatch.context() as patch:
        patch.setattr(service.registry._management, "unregister", no_response)
        with pytest.raises(VersionFailedError, match="a worker exited"):
            await service.version_manager.register(NAME, "2.0.0", None, ADA)
    await service.until(lambda: service.registered == {"1.0.0"})


async def no_response(*_: str) -> None:
    raise httpx.ReadTimeout("no response")


async def test_a_failed_rollback_is_cleaned_up_after_the_change_that_it_met(
    promoted: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = promoted.version_manager
    await manager.unregister(NAME, "1.0.0", ADA)
    async with AsyncExitStack() as other_change:

        async def fail(*_: object, **__: object) -> None:
            await other_change.enter_async_context(manager.lock.exclusive_change(NAME))
            raise ConflictError("changed meanwhile")

        with monkeypatch.context() as patch:
            patch.setattr(promoted.deployment_state, "commit", fail)
            with pytest.raises(ConflictError, match="changed meanwhile"):
                await roll_back(manager, NAME, ADA)
        assert promoted.registered == {"1.0.0", "2.0.0"}
        assert manager.problems == ["brightness 1.0.0: a failed change has not been cleaned up yet."]
    await promoted.until(lambda: promoted.registered == {"2.0.0"})
    assert manager.problems == []


async def test_a_rollout_keeps_only_its_own_version_after_a_failed_rollback(
    promoted: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await promoted.version_manager.unregister(NAME, "1.0.0", ADA)
    write_archive(promoted.store, NAME, "3.0.0")
    commit = promoted.deployment_state.commit

    async def start_rollout_first(*arguments: Any, **options: Any) -> None:
        monkeypatch.undo()
        await promoted.rollouts.start(NAME, RolloutSpec(version="3.0.0"), ADA)
        await commit(*arguments, **options)

    monkeypatch.setattr(promoted.deployment_state, "commit", start_rollout_first)
    with pytest.raises(ConflictError, match=r"a rollout of 3\.0\.0 is in progress"):
        await roll_back(promoted.version_manager, NAME, ADA)
    await promoted.until(lambda: promoted.registered == {"2.0.0", "3.0.0"})


async def test_workers_that_started_during_a_failed_change_are_ended_only_while_the_version_is_idle(
    proxied: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radserve.torchserve.registry._START_TIMEOUT", 0.3)
    torchserve, manager = proxied.torchserve, proxied.version_manager
    torchserve.behavior.ready = 2  # of three
    torchserve.behavior.pending = 1
    scaling = asyncio.create_task(manager.scale(NAME, "1.0.0", 3, ADA))
    await proxied.until(lambda: NAME in manager.scaling.hold)
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
    monkeypatch.setattr("radserve.versions.cleanup._PAUSE", 0.3)
    proxied.torchserve.behavior.dying = True
    proxied.torchserve.behavior.pending = 1
    manager = proxied.version_manager
    with pytest.raises(VersionFailedError, match="a worker exited before it was ready"):
        await manager.scale(NAME, "1.0.0", 2, ADA)
    assert manager.declared_versions(NAME)["1.0.0"].workers == 1
    assert manager.problems == ["brightness 1.0.0: a failed change has not been cleaned up yet."]
    proxied.torchserve.behavior.dying, proxied.torchserve.behavior.pending = False, 0
    await proxied.until(lambda: manager.problems == [])
    assert manager.registered_version(NAME, "1.0.0").workers == 1
    assert proxied.torchserve.models[NAME, "1.0.0"].workers == 1


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


async def test_a_rejected_registration_does_not_clean_up_a_version_that_a_change_in_progress_uses(
    promoted: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = promoted.version_manager
    await manager.unregister(NAME, "1.0.0", ADA)
    commit = promoted.deployment_state.commit

    async def register_first(*arguments: Any, **options: Any) -> None:
        monkeypatch.undo()
        with pytest.raises(ConflictError, match=r"1\.0\.0 is already registered"):
            await manager.register(NAME, "1.0.0", None, ADA)
        assert (NAME, "1.0.0") not in promoted.unregistration
        await commit(*arguments, **options)

    monkeypatch.setattr(promoted.deployment_state, "commit", register_first)
    await roll_back(manager, NAME, ADA)
    assert promoted.registered == {"1.0.0", "2.0.0"}
