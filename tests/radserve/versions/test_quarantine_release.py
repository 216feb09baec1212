"""Tests of radserve.versions.quarantine: who lifts it, and whom the lifting reaches."""

import errno
from contextlib import AsyncExitStack
from functools import partial

import pytest

from radserve.build import model_store
from radserve.errors import ChangeError, NotServedError
from radserve.versions.stored_state import State
from tests.radserve.minimal_archive import write_archive
from tests.radserve.versions.conftest import ADA, NAME, Service

pytestmark = pytest.mark.anyio


async def test_other_changes_do_not_lift_a_mark_of_another_server(service: Service) -> None:
    stable = service.archive("1.0.0").sha256
    model_store.quarantine(service.store, NAME, {stable: "slow", service.archive().sha256: "slow"}, ())
    await service.version_manager.register(NAME, "2.0.0", None, ADA)
    await service.version_manager.scale(NAME, "1.0.0", 2, ADA)
    assert service.archive("1.0.0").quarantine == "slow"
    assert service.archive().quarantine == "slow"
    await service.version_manager.promote(NAME, "2.0.0", ADA)
    assert service.archive().quarantine is None
    await service.version_manager.scale(NAME, "2.0.0", 2, ADA)
    assert service.archive("1.0.0").quarantine == "slow"


async def test_other_changes_do_not_mark_what_another_server_has_released(proxied: Service) -> None:
    await proxied.fail_rollout()
    model_store.quarantine(proxied.store, NAME, {}, {"2.0.0"})
    await proxied.version_manager.scale(NAME, "1.0.0", 2, ADA)
    write_archive(proxied.store, version="3.0.0", initialize="raise RuntimeError('no such file')")
    await proxied.end(await proxied.begin_rollout("3.0.0"))
    assert proxied.archive("3.0.0").quarantine is not None
    assert proxied.archive().quarantine is None


async def test_a_release_by_another_server_reaches_the_one_that_rolled_back(proxied: Service) -> None:
    await proxied.fail_rollout()
    assert proxied.stored.quarantine[0].marked
    model_store.quarantine(proxied.store, NAME, {}, {"2.0.0"})
    assert await proxied.version_manager.quarantine() == {}
    assert proxied.selected(proxied.stored) == ["2.0.0"]
    await proxied.fail_rollout()
    assert proxied.selected() == ["1.0.0"]


async def test_a_release_keeps_the_mark_of_a_rollback_that_comes_after_it(
    proxied: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await proxied.fail_rollout()
    state, lift = proxied.deployment_state, proxied.deployment_state.lift_mark

    async def roll_back_again(name: str, version: str) -> None:
        change = partial(State.with_quarantine, archive=proxied.archive(), reason="again")
        await state.commit(change, ADA, "rollback", "rolled back", (NAME, "2.0.0"), act_first=True)
        await lift(name, version)

    monkeypatch.setattr(state, "lift_mark", roll_back_again)
    with pytest.raises(ChangeError, match="was rolled back again"):
        await proxied.version_manager.release(NAME, "2.0.0", ADA)
    assert proxied.archive().quarantine == "again"


async def test_a_promotion_that_fails_lifts_no_mark(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    stable = service.archive("1.0.0").sha256
    model_store.quarantine(service.store, NAME, {stable: "slow", service.archive().sha256: "slow"}, ())
    await service.version_manager.register(NAME, "2.0.0", None, ADA)

    async def fail(*_: object) -> None:
        monkeypatch.undo()
        raise OSError("no space")

    monkeypatch.setattr(service.registry, "make_default", fail)
    with pytest.raises(ChangeError):
        await service.version_manager.promote(NAME, "2.0.0", ADA)
    assert (service.archive("1.0.0").quarantine, service.archive().quarantine) == ("slow", "slow")


async def test_the_first_version_of_a_model_leaves_quarantine_when_it_is_registered(service: Service) -> None:
    write_archive(service.store, "contrast")
    archive = model_store.read(service.store).find("contrast", "1.0.0")
    assert archive is not None
    model_store.quarantine(service.store, "contrast", {archive.sha256: "slow"}, ())
    await service.version_manager.register("contrast", "1.0.0", None, ADA)
    assert model_store.read(service.store).find("contrast", "1.0.0").quarantine is None  # type: ignore[union-attr]


async def test_a_rollout_that_succeeds_lifts_the_quarantine(proxied: Service) -> None:
    await proxied.fail_rollout()
    rollout = await proxied.begin_canary()
    proxied.observe("2.0.0", count=5)
    assert (await proxied.end(rollout)).phase == "promoted"
    assert proxied.archive().quarantine is None
    assert proxied.stored.quarantine == ()


async def test_the_quarantine_is_shown_and_lifted(proxied: Service, stack: AsyncExitStack) -> None:
    await proxied.fail_rollout()
    document = (await proxied.client.get("/versions")).json()
    (item,) = document["models"][0]["quarantined"]
    assert (item["version"], item["sha256"]) == ("2.0.0", proxied.archive().sha256)
    released = await proxied.client.post(f"/versions/{NAME}/2.0.0/release", json={"reason": "a false alarm"})
    assert released.json()["quarantined"] == []
    assert proxied.selected(proxied.stored) == ["2.0.0"]
    assert proxied.audit[-1] == ("release", "brightness 2.0.0: released.")
    with pytest.raises(NotServedError, match="is not in quarantine"):
        await proxied.version_manager.release(NAME, "2.0.0", ADA)


async def test_a_mark_of_another_server_is_lifted(service: Service) -> None:
    sha256 = service.archive().sha256
    model_store.quarantine(service.store, NAME, {sha256: "slow"}, ())
    model_store.quarantine(service.store, "other", {sha256: "other"}, {"2.0.0"})
    assert (await service.views.model(NAME)).quarantined[0].reason == "slow"
    await service.version_manager.release(NAME, "2.0.0", ADA)
    assert service.archive().quarantine is None


async def test_a_release_that_cannot_be_marked_is_an_error(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    model_store.quarantine(service.store, NAME, {service.archive().sha256: "slow"}, ())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(model_store, "write", full)
    response = await service.client.post(f"/versions/{NAME}/2.0.0/release", json={})
    assert response.status_code == 500
    assert "still in quarantine in the model store: " in response.json()["detail"]
