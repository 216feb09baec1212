"""Tests of radserve.versions.version_manager against a fake TorchServe."""

import asyncio

import pytest

from handlers.profile import VerifiedProfile
from radserve.errors import (
    ChangeError,
    ConflictError,
    NotServedError,
    StoreError,
    VersionFailedError,
)
from radserve.versions.deployment_file import parse
from radserve.versions.stored_state import StateFolder
from tests.handlers.test_profile import site_profile
from tests.radserve.minimal_archive import write_archive
from tests.radserve.versions.conftest import ADA, NAME, SPLIT, Disk, Service

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


async def test_a_candidate_that_was_not_unregistered_after_a_rollback_can_be(service: Service) -> None:
    await service.version_manager.register_candidate(NAME, "2.0.0", None)
    await service.version_manager.unregister(NAME, "2.0.0", ADA)
    assert service.registered == {"1.0.0"}


async def test_a_version_without_a_site_profile_is_not_promoted_over_one_that_has(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.registration.profiles = [VerifiedProfile(site_profile(), "b" * 64)]
    await service.version_manager.register(NAME, "2.0.0", 1, ADA)
    assert "brightness 2.0.0 has no site profile, but another version of brightness has" in caplog.text
    with pytest.raises(ConflictError, match=r"2\.0\.0 has no site profile, but 1\.0\.0 has one"):
        await service.version_manager.promote(NAME, "2.0.0", ADA)
    assert service.shares == {"1.0.0": 100, "2.0.0": 0}


async def test_a_version_that_fails_its_sample_is_not_promoted(service: Service) -> None:
    await service.version_manager.register(NAME, "2.0.0", None, ADA)
    service.torchserve.behavior.prediction = {"label": "dark"}
    with pytest.raises(VersionFailedError):
        await service.version_manager.promote(NAME, "2.0.0", ADA)
    assert service.torchserve.defaults == {NAME: "1.0.0"}
    assert service.shares == {"1.0.0": 100, "2.0.0": 0}


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
    with pytest.raises(ConflictError, match="only a proxy can split its requests"):
        await service.version_manager.apply(SPLIT, ADA)
    assert service.registered == {"1.0.0"}


async def test_a_split_sends_requests_to_both_versions(proxied: Service) -> None:
    await proxied.version_manager.apply(SPLIT, ADA)
    assert proxied.shares == {"1.0.0": 60, "2.0.0": 40}
    targets = [
        (proxied.directory.routing / "shares" / NAME / "/".join(f"{bucket:03}")).resolve().name
        for bucket in range(1000)
    ]
    assert (targets.count("1.0.0"), targets.count("2.0.0")) == (600, 400)


async def test_a_split_whose_sample_fails_is_not_made(proxied: Service) -> None:
    await proxied.version_manager.register(NAME, "2.0.0", None, ADA)
    proxied.torchserve.behavior.prediction = {"label": "dark"}
    with pytest.raises(VersionFailedError):
        await proxied.version_manager.apply(SPLIT, ADA)
    assert proxied.shares == {"1.0.0": 100, "2.0.0": 0}
