"""Tests of radserve.versions.version_manager against a fake TorchServe."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest

from radserve.errors import (
    ChangeError,
    ConflictError,
    NotReadyError,
    NotServedError,
    RadServeError,
    StoreError,
    VersionFailedError,
)
from radserve.schema.rollout import RolloutSpec
from radserve.torchserve.registry import ModelVersion
from radserve.versions.deployment_file import parse
from radserve.versions.stored_state import StateFolder
from tests.radserve.fake_torchserve import write_archive
from tests.radserve.versions.conftest import ADA, NAME, Disk, Service

pytestmark = pytest.mark.anyio


async def test_a_registered_version_is_on_standby_and_recorded(service: Service) -> None:
    model_version = await service.version_manager.register(NAME, "2.0.0", 2, ADA)
    assert (model_version.workers, model_version.ready) == (2, 2)
    assert service.shares == {"1.0.0": 100, "2.0.0": 0}
    assert service.torchserve.defaults == {NAME: "1.0.0"}
    assert service.audit == [("register", "brightness 2.0.0: registered.")]
    assert StateFolder(service.state_folder).state.deployment == service.deployment_state.deployment
    assert [str(item) for item in service.version_manager.versions_with_traffic] == ["brightness 1.0.0"]


async def test_the_first_version_of_a_model_receives_all_its_requests(service: Service) -> None:
    write_archive(service.store, "contrast", "1.0.0")
    await service.version_manager.register("contrast", "1.0.0", None, ADA)
    assert service.version_manager.declared_versions("contrast")["1.0.0"].share == 100


async def test_a_version_gets_as_many_workers_as_the_main_version_unless_the_request_says_otherwise(
    service: Service,
) -> None:
    await service.version_manager.scale(NAME, "1.0.0", 3, ADA)
    assert (await service.version_manager.register(NAME, "2.0.0", None, ADA)).workers == 3


async def test_a_missing_archive_is_pulled(service: Service) -> None:
    service.publisher.versions.append("3.0.0")
    await service.version_manager.register(NAME, "3.0.0", None, ADA)
    assert service.registered == {"1.0.0", "3.0.0"}
    with pytest.raises(StoreError, match="unknown archive brightness"):
        await service.version_manager.register(NAME, "4.0.0", None, ADA)


async def test_a_version_cannot_be_registered_twice_or_while_it_is_being_unregistered(service: Service) -> None:
    manager = service.version_manager
    candidate = await manager.register(NAME, "2.0.0", None, ADA)
    with pytest.raises(ConflictError, match=r"brightness 2\.0\.0 is already registered"):
        await manager.register(NAME, "2.0.0", None, ADA)
    service.unregistration.start(candidate)
    with pytest.raises(ConflictError, match="is being unregistered"):
        await manager.register(NAME, "2.0.0", None, ADA)
    with pytest.raises(NotServedError, match=r"Registered versions: 1\.0\.0, 2\.0\.0"):
        await manager.scale(NAME, "2.0.0", 2, ADA)
    await service.until(lambda: service.registered == {"1.0.0"})


@pytest.mark.parametrize(
    ("behavior", "message"),
    [
        ({"dying": True}, "a worker exited before it was ready"),
        ({"ready": 0}, "not all of 1 workers are ready"),
        ({"prediction": {"label": "dark"}}, "label"),
        ({"prediction_status": 500}, "500"),
    ],
)
async def test_a_version_that_fails_its_checks_leaves_nothing_behind(
    service: Service, behavior: dict[str, object], message: str
) -> None:
    for key, value in behavior.items():
        setattr(service.torchserve.behavior, key, value)
    with pytest.raises(VersionFailedError, match=message):
        await service.version_manager.register(NAME, "2.0.0", None, ADA)
    assert service.registered == {"1.0.0"}
    assert service.shares == {"1.0.0": 100}
    assert service.audit == []


async def test_a_version_that_cannot_be_recorded_is_unregistered_again(service: Service, disk: Disk) -> None:
    disk.full = True
    with pytest.raises(ChangeError, match="not writable"):
        await service.version_manager.register(NAME, "2.0.0", None, ADA)
    assert (NAME, "2.0.0") in service.unregistration  # which waits for clients that named it
    await service.until(lambda: service.registered == {"1.0.0"})
    assert service.shares == {"1.0.0": 100}


async def test_a_dead_torchserve_is_reported(service: Service) -> None:
    service.torchserve.die()
    with pytest.raises(ChangeError, match=r"scaled from 1 to 2 workers\. Failed and reverted: .* did not answer PUT"):
        await service.version_manager.scale(NAME, "1.0.0", 2, ADA)
    assert service.stored.versions(NAME)["1.0.0"].workers == 1


async def test_a_full_run_directory_is_reported(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(service.registration, "verify_sample", fail)
    with pytest.raises(ChangeError, match=r"the server failed to make the change: .* No space left on device"):
        await service.version_manager.register(NAME, "2.0.0", None, ADA)
    assert service.audit == []


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


async def test_promoting_a_version_gives_it_all_requests_and_a_rollback_returns_them(service: Service) -> None:
    manager = service.version_manager
    await manager.register(NAME, "2.0.0", None, ADA)
    await manager.promote(NAME, "2.0.0", ADA)
    assert service.shares == {"1.0.0": 0, "2.0.0": 100}
    assert service.torchserve.defaults == {NAME: "2.0.0"}
    await manager.promote(NAME, "2.0.0", ADA)
    await manager.rollback(NAME, ADA)
    assert service.shares == {"1.0.0": 100, "2.0.0": 0}
    assert service.torchserve.defaults == {NAME: "1.0.0"}
    assert service.audit[1:] == [
        ("promote", "brightness 2.0.0: receives all requests; before, 1.0.0 did."),
        ("rollback", "brightness 1.0.0: receives all requests; before, 2.0.0 did."),
    ]


async def test_a_rollback_registers_the_previous_version_again(service: Service) -> None:
    manager = service.version_manager
    await manager.register(NAME, "2.0.0", None, ADA)
    await manager.promote(NAME, "2.0.0", ADA)
    await manager.unregister(NAME, "1.0.0", ADA)
    assert service.registered == {"2.0.0"}
    await manager.rollback(NAME, ADA)
    assert service.registered == {"1.0.0", "2.0.0"}
    assert service.shares == {"1.0.0": 100, "2.0.0": 0}


@pytest.mark.parametrize("registered", [True, False])
async def test_a_rollback_needs_no_space_on_the_disk(service: Service, disk: Disk, registered: bool) -> None:
    manager = service.version_manager
    await manager.register(NAME, "2.0.0", None, ADA)
    await manager.promote(NAME, "2.0.0", ADA)
    if not registered:
        await manager.unregister(NAME, "1.0.0", ADA)
    disk.full = True
    await manager.rollback(NAME, ADA)
    assert service.torchserve.defaults == {NAME: "1.0.0"}
    assert service.shares == {"1.0.0": 100, "2.0.0": 0}
    disk.full = False
    await service.until(lambda: service.deployment_state.problem is None)
    assert service.stored == service.deployment_state.state
    assert service.audit[-1] == ("rollback", "brightness 1.0.0: receives all requests; before, 2.0.0 did.")


async def promoted(service: Service) -> None:
    """Promote version 2.0.0."""
    await service.version_manager.register(NAME, "2.0.0", None, ADA)
    await service.version_manager.promote(NAME, "2.0.0", ADA)


async def test_a_rollback_does_not_wait_for_other_changes(proxied: Service) -> None:
    manager = proxied.version_manager
    await promoted(proxied)
    await manager.scale(NAME, "2.0.0", 2, ADA)
    proxied.torchserve.behavior.pending = 1
    scaling = asyncio.create_task(manager.scale(NAME, "2.0.0", 1, ADA))
    await proxied.until(lambda: NAME in manager.gate._closed)
    await manager.rollback(NAME, ADA)
    assert not scaling.done()
    assert proxied.shares == {"1.0.0": 100, "2.0.0": 0}
    assert proxied.routed == {"1.0.0"}
    proxied.torchserve.behavior.pending = 0
    await scaling
    assert proxied.shares == {"1.0.0": 100, "2.0.0": 0}
    assert manager.declared_versions(NAME)["2.0.0"].workers == 1


async def test_a_change_that_fails_does_not_undo_a_rollback(proxied: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radserve.versions.version_manager._MAX_BUSY", 0.5)
    manager = proxied.version_manager
    await promoted(proxied)
    await manager.scale(NAME, "2.0.0", 2, ADA)
    proxied.torchserve.behavior.pending = 1
    scaling = asyncio.create_task(manager.scale(NAME, "2.0.0", 1, ADA))
    await proxied.until(lambda: NAME in manager.gate._closed)
    await manager.rollback(NAME, ADA)
    with pytest.raises(ConflictError, match="was busy"):
        await scaling
    assert proxied.shares == {"1.0.0": 100, "2.0.0": 0}
    assert proxied.routed == {"1.0.0"}
    assert manager.declared_versions(NAME)["2.0.0"].workers == 2
    assert [item.version for item in proxied.stored.quarantine] == ["2.0.0"]


SPLIT = parse(
    f"models: {{{NAME}: {{versions: {{1.0.0: {{share: 60}}, 2.0.0: {{share: 40}}, 3.0.0: {{share: 0}}}}}}}}", "test"
)


@pytest.mark.parametrize("change", ["promote", "split", "rollout"])
async def test_a_change_that_was_requested_before_a_rollback_does_not_undo_it(proxied: Service, change: str) -> None:
    manager = proxied.version_manager
    await promoted(proxied)
    write_archive(proxied.store, NAME, "3.0.0")
    await manager.register(NAME, "3.0.0", None, ADA)
    async with manager.exclusive_change(NAME):
        changes: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
            "promote": lambda: manager.promote(NAME, "3.0.0", ADA),
            "split": lambda: manager.apply(SPLIT, ADA),
            "rollout": lambda: proxied.rollouts.start(NAME, RolloutSpec(version="3.0.0"), ADA),
        }
        queued = asyncio.create_task(changes[change]())
        await asyncio.sleep(0.1)
        await manager.rollback(NAME, ADA)
    with pytest.raises(ConflictError, match="rolled back meanwhile"):
        await queued
    assert proxied.shares == {"1.0.0": 100, "2.0.0": 0, "3.0.0": 0}
    assert proxied.routed == {"1.0.0"}
    assert [item.version for item in proxied.stored.quarantine] == ["2.0.0"]
    await manager.promote(NAME, "3.0.0", ADA)


@pytest.mark.parametrize("promotions", [["3.0.0"], ["3.0.0", "2.0.0"]])
async def test_a_rollback_of_a_version_that_was_replaced_meanwhile_changes_nothing(
    proxied: Service, promotions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = proxied.version_manager
    await promoted(proxied)
    write_archive(proxied.store, NAME, "3.0.0")
    await manager.register(NAME, "3.0.0", None, ADA)

    async def verify(_: ModelVersion) -> None:
        monkeypatch.undo()
        for version in promotions:
            await manager.promote(NAME, version, ADA)

    monkeypatch.setattr(proxied.registration, "verify_response", verify)
    with pytest.raises(ConflictError, match="changed meanwhile"):
        await manager.rollback(NAME, ADA)
    assert proxied.shares == {"1.0.0": 0, "2.0.0": 0, "3.0.0": 0} | {promotions[-1]: 100}
    assert proxied.stored.quarantine == ()


async def test_a_promotion_that_fails_does_not_undo_its_rollback(
    proxied: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = proxied.version_manager
    await promoted(proxied)
    write_archive(proxied.store, NAME, "3.0.0")
    await manager.register(NAME, "3.0.0", None, ADA)
    begun, proceed = asyncio.Event(), asyncio.Event()

    async def fail(_: ModelVersion) -> None:
        monkeypatch.undo()
        begun.set()
        await proceed.wait()
        raise httpx.ReadTimeout("no response")

    monkeypatch.setattr(proxied.registry, "make_default", fail)
    promotion = asyncio.create_task(manager.promote(NAME, "3.0.0", ADA))
    await begun.wait()
    rollback = asyncio.create_task(manager.rollback(NAME, ADA))
    await proxied.until(lambda: proxied.shares["2.0.0"] == 100)
    proceed.set()
    with pytest.raises(ChangeError, match="Failed and reverted"):
        await promotion
    await rollback
    assert proxied.shares == {"1.0.0": 0, "2.0.0": 100, "3.0.0": 0}
    assert [item.version for item in proxied.stored.quarantine] == ["3.0.0"]


async def test_a_rollback_keeps_a_change_of_the_workers_of_its_target(proxied: Service) -> None:
    manager = proxied.version_manager
    await promoted(proxied)
    await manager.scale(NAME, "1.0.0", 2, ADA)
    proxied.torchserve.behavior.pending = 1
    scaling = asyncio.create_task(manager.scale(NAME, "1.0.0", 1, ADA))
    await proxied.until(lambda: NAME in manager.gate._closed)
    await manager.rollback(NAME, ADA)
    proxied.torchserve.behavior.pending = 0
    await scaling
    assert proxied.shares == {"1.0.0": 100, "2.0.0": 0}
    assert proxied.stored.versions(NAME)["1.0.0"].workers == 1


async def test_a_rollback_keeps_a_version_that_is_being_unregistered(
    proxied: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = proxied.version_manager
    await promoted(proxied)
    monkeypatch.setattr(proxied.unregistration, "settle", 60.0)
    unregistering = asyncio.create_task(manager.unregister(NAME, "1.0.0", ADA))
    await proxied.until(lambda: (NAME, "1.0.0") in proxied.unregistration)
    started = time.monotonic()
    await manager.rollback(NAME, ADA)
    assert time.monotonic() - started < 5
    assert proxied.routed == {"1.0.0"}
    assert not (proxied.directory.routing / "closed" / NAME / "1.0.0").exists()
    with pytest.raises(ConflictError, match=r"brightness 1\.0\.0 stays registered: a rollback needs it"):
        await unregistering
    assert proxied.registered == {"1.0.0", "2.0.0"}
    assert [str(item) for item in manager.versions_with_traffic] == ["brightness 1.0.0"]


async def test_a_rollback_waits_for_torchserve_to_end_a_version_and_registers_it_again(proxied: Service) -> None:
    manager = proxied.version_manager
    await promoted(proxied)
    unregister = proxied.registry.unregister
    begun, proceed = asyncio.Event(), asyncio.Event()

    async def slow(version: ModelVersion) -> None:
        begun.set()
        await proceed.wait()
        await unregister(version)

    proxied.registry.unregister = slow  # type: ignore[method-assign]
    unregistering = asyncio.create_task(manager.unregister(NAME, "1.0.0", ADA))
    await begun.wait()
    rollback = asyncio.create_task(manager.rollback(NAME, ADA))
    await asyncio.sleep(0.1)
    assert not rollback.done()
    proceed.set()
    await asyncio.gather(rollback, unregistering)
    assert proxied.registered == {"1.0.0", "2.0.0"}
    assert proxied.routed == {"1.0.0"}


async def test_a_rollback_registers_a_version_again_whose_unregistration_had_no_response(
    proxied: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radserve.versions.unregistration._RETRY_SECONDS", 0.3)
    await promoted(proxied)
    send = proxied.registry._management.unregister

    async def unanswered(name: str, version: str) -> None:
        monkeypatch.setattr(proxied.registry._management, "unregister", send)
        await send(name, version)
        raise httpx.ReadTimeout("no response")

    monkeypatch.setattr(proxied.registry._management, "unregister", unanswered)
    unregistering = asyncio.create_task(proxied.version_manager.unregister(NAME, "1.0.0", ADA))
    await proxied.until(lambda: proxied.registered == {"2.0.0"})
    await asyncio.sleep(0.1)
    await proxied.version_manager.rollback(NAME, ADA)
    await unregistering
    assert proxied.registered == {"1.0.0", "2.0.0"}
    assert proxied.routed == {"1.0.0"}


async def test_a_rollback_keeps_a_version_whose_unregistration_torchserve_rejects(
    proxied: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await promoted(proxied)
    begun = asyncio.Event()

    async def rejected(*_: str) -> None:
        begun.set()
        await asyncio.sleep(0.1)
        raise httpx.HTTPStatusError("500", request=httpx.Request("DELETE", "/"), response=httpx.Response(500))

    monkeypatch.setattr(proxied.registry._management, "unregister", rejected)
    unregistering = asyncio.create_task(proxied.version_manager.unregister(NAME, "1.0.0", ADA))
    await begun.wait()
    await asyncio.wait_for(proxied.version_manager.rollback(NAME, ADA), 5)
    with pytest.raises(ConflictError):
        await unregistering
    assert proxied.routed == {"1.0.0"}


@pytest.mark.parametrize("registered", [True, False])
async def test_a_rollback_that_fails_leaves_no_version_registered(
    proxied: Service, registered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = proxied.version_manager
    await promoted(proxied)
    write_archive(proxied.store, NAME, "3.0.0")
    await manager.register(NAME, "3.0.0", None, ADA)
    unregistering = asyncio.create_task(manager.unregister(NAME, "1.0.0", ADA))
    await proxied.until(lambda: (NAME, "1.0.0") in proxied.unregistration)
    if not registered:
        await unregistering
    commit = proxied.deployment_state.commit

    async def promote_first(*arguments: Any, **options: Any) -> None:
        monkeypatch.undo()
        await manager.promote(NAME, "3.0.0", ADA)
        await commit(*arguments, **options)

    monkeypatch.setattr(proxied.deployment_state, "commit", promote_first)
    with pytest.raises(ConflictError, match="changed meanwhile"):
        await manager.rollback(NAME, ADA)
    await asyncio.wait({unregistering})
    await proxied.until(lambda: proxied.registered == {"2.0.0", "3.0.0"})


async def test_a_change_that_waits_is_rejected_when_the_server_stops(service: Service) -> None:
    async with service.version_manager.exclusive_change(NAME):
        waiting = asyncio.create_task(service.version_manager.register(NAME, "2.0.0", None, ADA))
        await asyncio.sleep(0.1)
        await service.version_manager.stop()
    with pytest.raises(NotReadyError, match="accepts no changes"):
        await waiting
    assert service.registered == {"1.0.0"}


async def test_a_rollback_does_not_wait_forever_for_an_unregistration(
    proxied: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radserve.versions.unregistration._MAX_ATTEMPT", 0.2)
    await promoted(proxied)
    begun = asyncio.Event()

    async def silent(*_: str) -> None:
        begun.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(proxied.registry._management, "unregister", silent)
    unregistering = asyncio.create_task(proxied.version_manager.unregister(NAME, "1.0.0", ADA))
    await begun.wait()
    with pytest.raises(ChangeError, match=r"unregistering it and does not respond"):
        await asyncio.wait_for(proxied.version_manager.rollback(NAME, ADA), 5)
    assert proxied.routed == {"2.0.0"}
    unregistering.cancel()


async def test_a_version_whose_sample_fails_is_unregistered_all_the_same(
    proxied: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = proxied.version_manager
    await promoted(proxied)
    monkeypatch.setattr(proxied.unregistration, "settle", 0.3)
    unregistering = asyncio.create_task(manager.unregister(NAME, "1.0.0", ADA))
    await proxied.until(lambda: (NAME, "1.0.0") in proxied.unregistration)
    proxied.torchserve.behavior.prediction_status = 500
    with pytest.raises(VersionFailedError):
        await manager.rollback(NAME, ADA)
    with pytest.raises(ConflictError):
        await unregistering
    await proxied.until(lambda: proxied.registered == {"2.0.0"})


async def test_a_rollback_does_not_wait_for_a_silent_management_api(proxied: Service) -> None:
    await promoted(proxied)
    proxied.torchserve.behavior.delay = 60.0
    rollback = asyncio.create_task(proxied.version_manager.rollback(NAME, ADA))
    await proxied.until(lambda: proxied.routed == {"1.0.0"}, 5)
    await proxied.until(lambda: proxied.stored.versions(NAME)["1.0.0"].share == 100, 5)
    proxied.torchserve.die()
    with pytest.raises(ChangeError, match="TorchServe or the proxy was not updated"):
        await rollback


async def test_a_rollback_is_rejected_if_the_previous_version_fails_its_sample(service: Service) -> None:
    manager = service.version_manager
    await manager.register(NAME, "2.0.0", None, ADA)
    await manager.promote(NAME, "2.0.0", ADA)
    service.torchserve.behavior.prediction_status = 500
    with pytest.raises(VersionFailedError, match=r"1\.0\.0: the request with its sample failed"):
        await manager.rollback(NAME, ADA)
    assert service.shares == {"1.0.0": 0, "2.0.0": 100}


@pytest.mark.parametrize("workers", [1, 3])
async def test_a_scaling_that_cannot_be_recorded_ends_no_worker(service: Service, disk: Disk, workers: int) -> None:
    await service.version_manager.register(NAME, "2.0.0", 2, ADA)
    before = list(service.torchserve.requests)
    disk.full = True
    with pytest.raises(ChangeError, match="not writable"):
        await service.version_manager.scale(NAME, "2.0.0", workers, ADA)
    assert service.version_manager.registered_version(NAME, "2.0.0").workers == 2
    assert [request for request in service.torchserve.requests[len(before) :] if request[0] == "PUT"] == []


async def test_a_candidate_that_was_not_unregistered_after_a_rollback_can_be(service: Service) -> None:
    await service.version_manager.register_candidate(NAME, "2.0.0", None)
    await service.version_manager.unregister(NAME, "2.0.0", ADA)
    assert service.registered == {"1.0.0"}


async def test_without_a_previous_version_there_is_no_rollback(service: Service) -> None:
    with pytest.raises(ConflictError, match="no previous version"):
        await service.version_manager.rollback(NAME, ADA)
    with pytest.raises(NotServedError, match=r"Unknown model 'lung'. Available: brightness\."):
        await service.version_manager.rollback("lung", ADA)


async def test_a_version_that_fails_its_sample_is_not_promoted(service: Service) -> None:
    await service.version_manager.register(NAME, "2.0.0", None, ADA)
    service.torchserve.behavior.prediction = {"label": "dark"}
    with pytest.raises(VersionFailedError):
        await service.version_manager.promote(NAME, "2.0.0", ADA)
    assert service.torchserve.defaults == {NAME: "1.0.0"}
    assert service.shares == {"1.0.0": 100, "2.0.0": 0}


async def test_an_unregistered_version_is_gone_from_torchserve_and_the_state(service: Service) -> None:
    await service.version_manager.register(NAME, "2.0.0", None, ADA)
    await service.version_manager.unregister(NAME, "2.0.0", ADA)
    assert service.registered == {"1.0.0"}
    assert service.shares == {"1.0.0": 100}
    assert service.audit[-1] == ("unregister", "brightness 2.0.0: unregistered.")


async def test_a_version_stays_registered_if_its_unregistration_cannot_be_recorded(
    service: Service, disk: Disk
) -> None:
    await service.version_manager.register(NAME, "2.0.0", None, ADA)
    disk.full = True
    with pytest.raises(ChangeError, match="not writable"):
        await service.version_manager.unregister(NAME, "2.0.0", ADA)
    await asyncio.sleep(0.2)
    assert service.registered == {"1.0.0", "2.0.0"}
    assert service.version_manager.registered_version(NAME, "2.0.0").ready == 1


async def test_a_version_with_requests_is_not_unregistered(service: Service) -> None:
    manager = service.version_manager
    await manager.register(NAME, "2.0.0", None, ADA)
    with pytest.raises(ConflictError, match=r"brightness 1\.0\.0 receives 100% of the requests; promote another"):
        await manager.unregister(NAME, "1.0.0", ADA, force=True)
    await manager.unregister(NAME, "2.0.0", ADA)
    with pytest.raises(ConflictError, match="the only version of this server; stop the server"):
        await manager.unregister(NAME, "1.0.0", ADA, force=True)
    write_archive(service.store, "contrast", "1.0.0")
    await manager.register("contrast", "1.0.0", None, ADA)
    with pytest.raises(ConflictError, match=r"the only version; --force \(force=true\) stops serving contrast"):
        await manager.unregister("contrast", "1.0.0", ADA)
    await manager.unregister("contrast", "1.0.0", ADA, force=True)
    assert set(service.torchserve.models) == {(NAME, "1.0.0")}


async def test_applying_a_deployment_makes_its_changes_once(service: Service) -> None:
    wanted = parse(f"models: {{{NAME}: {{versions: {{2.0.0: {{workers: 2}}}}}}}}", "test")
    changes = await service.version_manager.apply(wanted, ADA)
    assert [change.action for change in changes] == ["register", "share", "unregister"]
    assert service.registered == {"2.0.0"}
    assert service.shares == {"2.0.0": 100}
    assert await service.version_manager.apply(wanted, ADA) == ()
    more = parse(f"models: {{{NAME}: {{versions: {{2.0.0: {{workers: 1}}}}}}}}", "test")
    assert [change.action for change in await service.version_manager.apply(more, ADA)] == ["scale"]
    assert ("share", "brightness: requests split: 1.0.0 0%, 2.0.0 100%.") in service.audit


async def test_applying_a_split_needs_a_proxy(service: Service) -> None:
    split = parse(f"models: {{{NAME}: {{versions: {{1.0.0: {{share: 60}}, 2.0.0: {{share: 40}}}}}}}}", "test")
    with pytest.raises(ConflictError, match="only a proxy can split its requests"):
        await service.version_manager.apply(split, ADA)
    assert service.registered == {"1.0.0"}


async def test_a_split_sends_requests_to_both_versions(proxied: Service) -> None:
    split = parse(f"models: {{{NAME}: {{versions: {{1.0.0: {{share: 60}}, 2.0.0: {{share: 40}}}}}}}}", "test")
    await proxied.version_manager.apply(split, ADA)
    assert proxied.shares == {"1.0.0": 60, "2.0.0": 40}
    targets = [
        (proxied.directory.routing / "shares" / NAME / "/".join(f"{bucket:03}")).resolve().name
        for bucket in range(1000)
    ]
    assert (targets.count("1.0.0"), targets.count("2.0.0")) == (600, 400)


async def test_a_split_whose_sample_fails_is_not_made(proxied: Service) -> None:
    await proxied.version_manager.register(NAME, "2.0.0", None, ADA)
    proxied.torchserve.behavior.prediction = {"label": "dark"}
    split = parse(f"models: {{{NAME}: {{versions: {{1.0.0: {{share: 60}}, 2.0.0: {{share: 40}}}}}}}}", "test")
    with pytest.raises(VersionFailedError):
        await proxied.version_manager.apply(split, ADA)
    assert proxied.shares == {"1.0.0": 100, "2.0.0": 0}


async def test_changes_of_a_model_are_made_one_after_the_other(service: Service) -> None:
    service.torchserve.behavior.delay = 0.05
    results = await asyncio.gather(
        *(service.version_manager.register(NAME, "2.0.0", None, ADA) for _ in range(3)), return_exceptions=True
    )
    assert sum(isinstance(result, ConflictError) for result in results) == 2
    assert service.registered == {"1.0.0", "2.0.0"}


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
