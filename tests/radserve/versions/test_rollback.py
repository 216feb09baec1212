"""Tests of radserve.versions.rollback against a fake TorchServe."""

import asyncio

import httpx
import pytest

from radserve.errors import ChangeError, ConflictError, NotServedError, VersionFailedError
from radserve.torchserve.registry import ModelVersion
from radserve.versions.rollback import roll_back
from tests.radserve.versions.conftest import ADA, NAME, Disk, Service

pytestmark = pytest.mark.anyio


async def test_promoting_a_version_gives_it_all_requests_and_a_rollback_returns_them(service: Service) -> None:
    manager = service.version_manager
    await manager.register(NAME, "2.0.0", None, ADA)
    await manager.promote(NAME, "2.0.0", ADA)
    assert service.shares == {"1.0.0": 0, "2.0.0": 100}
    assert service.torchserve.defaults == {NAME: "2.0.0"}
    await manager.promote(NAME, "2.0.0", ADA)
    await roll_back(manager, NAME, ADA)
    assert service.shares == {"1.0.0": 100, "2.0.0": 0}
    assert service.torchserve.defaults == {NAME: "1.0.0"}
    assert service.audit[1:] == [
        ("promote", "brightness 2.0.0: receives all requests; before, 1.0.0 did."),
        ("rollback", "brightness 1.0.0: receives all requests; before, 2.0.0 did."),
    ]


async def test_without_a_previous_version_there_is_no_rollback(service: Service) -> None:
    with pytest.raises(ConflictError, match="no previous version"):
        await roll_back(service.version_manager, NAME, ADA)
    with pytest.raises(NotServedError, match=r"Unknown model 'lung'. Available: brightness\."):
        await roll_back(service.version_manager, "lung", ADA)


async def test_a_rollback_registers_the_previous_version_again(promoted: Service) -> None:
    manager = promoted.version_manager
    await manager.unregister(NAME, "1.0.0", ADA)
    assert promoted.registered == {"2.0.0"}
    await roll_back(manager, NAME, ADA)
    assert promoted.registered == {"1.0.0", "2.0.0"}
    assert promoted.shares == {"1.0.0": 100, "2.0.0": 0}


@pytest.mark.parametrize("registered", [True, False])
async def test_a_rollback_needs_no_space_on_the_disk(service: Service, disk: Disk, registered: bool) -> None:
    manager = service.version_manager
    await manager.register(NAME, "2.0.0", None, ADA)
    await manager.promote(NAME, "2.0.0", ADA)
    if not registered:
        await manager.unregister(NAME, "1.0.0", ADA)
    disk.full = True
    await roll_back(manager, NAME, ADA)
    assert service.torchserve.defaults == {NAME: "1.0.0"}
    assert service.shares == {"1.0.0": 100, "2.0.0": 0}
    disk.full = False
    await service.until(lambda: service.deployment_state.problem is None)
    assert service.stored == service.deployment_state.state
    assert service.audit[-1] == ("rollback", "brightness 1.0.0: receives all requests; before, 2.0.0 did.")


async def test_a_rollback_is_rejected_if_the_previous_version_fails_its_sample(promoted: Service) -> None:
    promoted.torchserve.behavior.prediction_status = 500
    with pytest.raises(VersionFailedError, match=r"1\.0\.0: the request with its sample failed"):
        await roll_back(promoted.version_manager, NAME, ADA)
    assert promoted.shares == {"1.0.0": 0, "2.0.0": 100}


async def test_a_rollback_does_not_wait_for_a_silent_management_api(promoted: Service) -> None:
    promoted.torchserve.behavior.delay = 60.0
    rollback = asyncio.create_task(roll_back(promoted.version_manager, NAME, ADA))
    await promoted.until(lambda: promoted.routed == {"1.0.0"}, 5)
    await promoted.until(lambda: promoted.stored.versions(NAME)["1.0.0"].share == 100, 5)
    promoted.torchserve.die()
    with pytest.raises(ChangeError, match="TorchServe or the proxy was not updated"):
        await rollback


async def test_a_rollback_does_not_wait_for_other_changes(promoted: Service) -> None:
    manager = promoted.version_manager
    scaling = await promoted.begin_scaling("2.0.0")
    await roll_back(manager, NAME, ADA)
    assert not scaling.done()
    assert promoted.shares == {"1.0.0": 100, "2.0.0": 0}
    assert promoted.routed == {"1.0.0"}
    promoted.torchserve.behavior.pending = 0
    await scaling
    assert promoted.shares == {"1.0.0": 100, "2.0.0": 0}
    assert manager.declared_versions(NAME)["2.0.0"].workers == 1


async def test_a_change_that_fails_does_not_undo_a_rollback(promoted: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radserve.versions.scaling._MAX_BUSY", 0.5)
    manager = promoted.version_manager
    scaling = await promoted.begin_scaling("2.0.0")
    await roll_back(manager, NAME, ADA)
    with pytest.raises(ConflictError, match="was busy"):
        await scaling
    assert promoted.shares == {"1.0.0": 100, "2.0.0": 0}
    assert promoted.routed == {"1.0.0"}
    assert manager.declared_versions(NAME)["2.0.0"].workers == 2
    assert [item.version for item in promoted.stored.quarantine] == ["2.0.0"]


async def test_a_promotion_that_fails_does_not_undo_its_rollback(
    promoted: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = promoted.version_manager
    await promoted.add("3.0.0")
    begun, proceed = asyncio.Event(), asyncio.Event()

    async def fail(_: ModelVersion) -> None:
        monkeypatch.undo()
        begun.set()
        await proceed.wait()
        raise httpx.ReadTimeout("no response")

    monkeypatch.setattr(promoted.registry, "make_default", fail)
    promotion = asyncio.create_task(manager.promote(NAME, "3.0.0", ADA))
    await begun.wait()
    rollback = asyncio.create_task(roll_back(manager, NAME, ADA))
    await promoted.until(lambda: promoted.shares["2.0.0"] == 100)
    proceed.set()
    with pytest.raises(ChangeError, match="Failed and reverted"):
        await promotion
    await rollback
    assert promoted.shares == {"1.0.0": 0, "2.0.0": 100, "3.0.0": 0}
    assert [item.version for item in promoted.stored.quarantine] == ["3.0.0"]


@pytest.mark.parametrize("promotions", [["3.0.0"], ["3.0.0", "2.0.0"]])
async def test_a_rollback_of_a_version_that_was_replaced_meanwhile_changes_nothing(
    promoted: Service, promotions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = promoted.version_manager
    await promoted.add("3.0.0")

    async def verify(_: ModelVersion) -> None:
        monkeypatch.undo()
        for version in promotions:
            await manager.promote(NAME, version, ADA)

    monkeypatch.setattr(promoted.registration, "verify_response", verify)
    with pytest.raises(ConflictError, match="changed meanwhile"):
        await roll_back(manager, NAME, ADA)
    assert promoted.shares == {"1.0.0": 0, "2.0.0": 0, "3.0.0": 0} | {promotions[-1]: 100}
    assert promoted.stored.quarantine == ()


async def test_a_rollback_keeps_a_change_of_the_workers_of_its_target(promoted: Service) -> None:
    scaling = await promoted.begin_scaling("1.0.0")
    await roll_back(promoted.version_manager, NAME, ADA)
    promoted.torchserve.behavior.pending = 0
    await scaling
    assert promoted.shares == {"1.0.0": 100, "2.0.0": 0}
    assert promoted.stored.versions(NAME)["1.0.0"].workers == 1
