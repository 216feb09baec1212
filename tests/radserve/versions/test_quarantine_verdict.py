"""Tests of radserve.versions.quarantine: which failures are a verdict about the version."""

import errno
import os
from typing import Any

import pytest

from radserve.build import model_store
from radserve.errors import ConflictError
from radserve.torchserve import verified_models
from radserve.versions.rollback import roll_back
from radserve.versions.rollout import Rollout
from tests.radserve.minimal_archive import write_archive
from tests.radserve.versions.conftest import ADA, NAME, Disk, Service

pytestmark = pytest.mark.anyio


async def test_a_version_that_does_not_start_is_put_into_quarantine(proxied: Service) -> None:
    write_archive(proxied.store, version="3.0.0", initialize="raise RuntimeError('no such file')")
    await proxied.end(await proxied.begin_rollout("3.0.0"))
    assert proxied.selected() == ["2.0.0"]
    assert "no such file" in (proxied.archive("3.0.0").quarantine or "")


async def test_an_aborted_version_is_put_into_quarantine(proxied: Service) -> None:
    rollout = await proxied.begin_canary()
    await rollout.abort(ADA)
    assert proxied.archive().quarantine == "aborted by user ada: test"


async def no_verdict(service: Service, rollout: Rollout) -> None:
    """Check that a rollout is rolled back without a quarantine."""
    assert (await service.end(rollout)).phase == "rolled_back"
    assert service.deployment_state.state.quarantine == ()
    await service.until(lambda: service.routed == {"1.0.0"})
    assert service.selected() == ["2.0.0"]


async def test_a_full_disk_is_no_verdict_about_the_version(proxied: Service, disk: Disk) -> None:
    rollout = await proxied.begin_canary(steps=[10, 100])
    disk.full = True
    proxied.observe("2.0.0", count=5)
    await proxied.until(lambda: rollout.done)
    disk.full = False
    await no_verdict(proxied, rollout)


async def test_a_silent_torchserve_is_no_verdict_about_the_version(proxied: Service) -> None:
    rollout = await proxied.begin_canary()
    proxied.torchserve.behavior.delay = 2.0
    await no_verdict(proxied, rollout)


async def test_a_torchserve_that_starts_no_workers_is_no_verdict_about_the_version(proxied: Service) -> None:
    proxied.torchserve.behavior.scale_status = 500
    await no_verdict(proxied, await proxied.begin_rollout())


@pytest.mark.parametrize("broken", ["index", "archive"])
async def test_a_store_that_cannot_be_read_is_no_verdict_about_the_version(
    proxied: Service, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, select = proxied.store / model_store.FILE, verified_models.select

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def unreadable(*arguments: Any) -> Any:
        before = index.read_bytes()
        with monkeypatch.context() as patch:
            if broken == "index":
                index.write_text("{")
            else:
                patch.setattr("hashlib.file_digest", fail)
            try:
                return select(*arguments)
            finally:
                index.write_bytes(before)

    monkeypatch.setattr(verified_models, "select", unreadable)
    await no_verdict(proxied, await proxied.begin_rollout())


async def test_an_internal_error_is_no_verdict_about_the_version(
    proxied: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radserve.versions.rollout.decide", lambda *_: 1 / 0)
    await no_verdict(proxied, await proxied.begin_rollout())


async def test_errors_of_both_versions_are_no_verdict_about_the_new_one(proxied: Service) -> None:
    rollout = await proxied.begin_canary(steps=[10, 100])
    proxied.observe("1.0.0", 502, count=50)
    proxied.observe("2.0.0", 502, count=5)
    await no_verdict(proxied, rollout)
    assert "the stable version as well: 50 of 50 requests failed with 5xx" in rollout.status().detail


async def test_the_quarantine_is_that_of_the_served_archive(proxied: Service) -> None:
    served = proxied.archive().sha256
    rollout = await proxied.begin_canary()
    write_archive(proxied.store, version="2.0.0", members={"CARD.md": "rebuilt meanwhile"})
    proxied.observe("2.0.0", 500, count=5)
    await proxied.end(rollout)
    (item,) = proxied.deployment_state.state.quarantine
    assert item.sha256 == served
    assert proxied.selected(proxied.stored) == ["2.0.0"]
    assert proxied.archive().quarantine is None


async def test_a_rollback_puts_the_served_archive_into_quarantine(service: Service) -> None:
    served = service.archive().sha256
    await service.promote_new()
    write_archive(service.store, version="2.0.0", members={"CARD.md": "rebuilt meanwhile"})
    await roll_back(service.version_manager, NAME, ADA)
    assert [item.sha256 for item in service.deployment_state.state.quarantine] == [served]


async def test_an_unknown_version_changes_nothing(proxied: Service) -> None:
    assert (await proxied.end(await proxied.begin_rollout("9.0.0"))).phase == "rolled_back"
    assert proxied.deployment_state.state.quarantine == ()
    assert proxied.selected() == ["2.0.0"]


async def test_a_rollback_puts_the_version_it_leaves_into_quarantine(service: Service) -> None:
    manager = service.version_manager
    await manager.register(NAME, "2.0.0", None, ADA)
    await manager.promote(NAME, "2.0.0", ADA)
    await roll_back(manager, NAME, ADA)
    assert service.archive().quarantine == "rolled back by user ada: test"
    with pytest.raises(ConflictError, match=r"previous version 2\.0\.0 is in quarantine.*models promote brightness 2"):
        await roll_back(manager, NAME, ADA)
    await manager.promote(NAME, "2.0.0", ADA)
    assert service.archive().quarantine is None
    assert service.deployment_state.state.quarantine == ()
