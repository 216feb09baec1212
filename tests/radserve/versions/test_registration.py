"""Tests of radserve.versions.registration."""

import asyncio
import errno
import shutil
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from handlers.profile import VerifiedProfile
from radserve.build import model_store
from radserve.build.model_store import Entry
from radserve.errors import ArchiveError, ChangeError, NotServedError, VersionFailedError
from radserve.torchserve import verified_models
from radserve.torchserve.registry import ModelVersion
from tests.handlers.test_profile import site_profile
from tests.radserve.versions.conftest import NAME, Service

pytestmark = pytest.mark.anyio


async def test_the_phases_of_a_registration_are_reported_in_order(service: Service) -> None:
    phases: list[tuple[str, Entry | None]] = []
    await service.registration.register(NAME, "2.0.0", 1, lambda *phase: phases.append(phase))
    entry = model_store.read(service.store).find(NAME, "2.0.0")
    assert phases == [("pulling", None), ("verifying", entry), ("starting", entry)]


async def test_clients_cannot_name_a_version_before_it_has_answered_its_sample(service: Service) -> None:
    service.torchserve.behavior.prediction_delay = 0.1
    closed = service.directory.routing / "closed" / NAME / "2.0.0"
    closed_while_starting: list[bool] = []
    original = service.registration.verify_sample

    async def verify_sample(*args: object) -> None:
        closed_while_starting.append(closed.exists())
        await original(*args)  # type: ignore[arg-type]

    service.registration.verify_sample = verify_sample  # type: ignore[method-assign, assignment]
    await service.registration.register(NAME, "2.0.0", 1)
    assert closed_while_starting == [True]
    assert not closed.exists()


async def test_without_another_store_a_missing_archive_is_an_error(service: Service) -> None:
    service.registration.source = None
    with pytest.raises(NotServedError, match=r"3\.0\.0: not in the model store .*, and the server has no other store"):
        await service.registration.register(NAME, "3.0.0", 1)


async def test_a_damaged_archive_is_not_started(service: Service) -> None:
    with (service.store / f"{NAME}-2.0.0.mar").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ArchiveError):
        await service.registration.register(NAME, "2.0.0", 1)
    assert service.registered == {"1.0.0"}


async def test_a_version_that_torchserve_lost_has_no_ready_worker(service: Service) -> None:
    (model_version,) = service.registry
    service.torchserve.models.clear()
    with pytest.raises(VersionFailedError, match=r"brightness 1\.0\.0: no worker is ready"):
        await service.registration.verify_sample(model_version)


async def test_a_sample_without_a_response_is_named(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(_: ModelVersion) -> str:
        raise httpx.ReadTimeout("")

    monkeypatch.setattr(service.registration.readiness, "sample_problem", silent)
    with pytest.raises(ChangeError, match=r"1\.0\.0: no response to its sample, POST /predictions/brightness/1\.0\.0"):
        await service.registration.verify_sample(service.version_manager.registered_version(NAME, "1.0.0"))


async def test_a_failed_registration_leaves_no_folder(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise VersionFailedError("no")

    monkeypatch.setattr("radserve.versions.preflight.check", fail)
    with pytest.raises(VersionFailedError):
        await service.registration.register(NAME, "2.0.0", 1)
    assert list(service.directory.models.iterdir()) == []


async def test_a_registration_that_is_cancelled_while_it_unpacks_leaves_no_folder(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, proceed = threading.Event(), threading.Event()
    unpack = verified_models.unpack

    def slowly(*arguments: Any) -> Path:
        started.set()
        proceed.wait(10)
        return unpack(*arguments)

    monkeypatch.setattr(verified_models, "unpack", slowly)
    registering = asyncio.create_task(service.registration.register(NAME, "2.0.0", 1))
    await asyncio.to_thread(started.wait, 10)
    registering.cancel()
    await asyncio.sleep(0.05)
    assert not registering.done()  # the thread cannot be cancelled
    proceed.set()
    with pytest.raises(asyncio.CancelledError):
        await registering
    assert list(service.directory.models.iterdir()) == []


async def test_a_full_disk_is_no_fault_of_the_version(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "unpack_archive", fail)
    with pytest.raises(ChangeError, match=r"brightness-2\.0\.0\.mar: cannot be unpacked .*: No space") as caught:
        await service.registration.register(NAME, "2.0.0", 1)
    assert caught.value.status == 500


async def test_a_registered_version_gets_the_site_profile_of_its_archive(service: Service) -> None:
    fitted = VerifiedProfile(site_profile(version="2.0.0", archive=service.archive().sha256), "b" * 64)
    service.registration.profiles = [fitted]
    service.torchserve.behavior.prediction = {"profile": fitted.reference}
    model_version = await service.registration.register(NAME, "2.0.0", 1)
    assert model_version.model.profile == fitted
    assert model_version.model.recipe.decision == fitted.profile.decision


async def test_a_site_profile_that_contradicts_the_recipe_fails_the_registration(service: Service) -> None:
    decision = site_profile().decision.model_copy(update={"positive": "cat"})
    profile = site_profile(version="2.0.0", archive=service.archive().sha256, decision=decision)
    service.registration.profiles = [VerifiedProfile(profile, "b" * 64)]
    with pytest.raises(VersionFailedError, match="'cat'"):
        await service.registration.register(NAME, "2.0.0", 1)


async def test_a_site_profile_of_another_archive_fails_the_registration(service: Service) -> None:
    service.registration.profiles = [VerifiedProfile(site_profile(version="2.0.0", archive="c" * 64), "b" * 64)]
    with pytest.raises(VersionFailedError, match="was fitted with archive cccccccccccc"):
        await service.registration.register(NAME, "2.0.0", 1)
    assert service.registered == {"1.0.0"}
