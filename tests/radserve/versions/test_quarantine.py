"""Tests of radserve.versions.quarantine: archives that were rolled back are served only where they are named."""

import asyncio
import errno
import os
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from radserve.build import model_store
from radserve.build.model_store import Entry
from radserve.errors import ArchiveError, ChangeError, ConflictError, NotServedError, ServeError
from radserve.schema.rollout import RolloutSpec
from radserve.torchserve import verified_models
from radserve.torchserve.verified_models import select
from radserve.versions.rollout import Rollout
from radserve.versions.stored_state import State
from tests.radserve.fake_torchserve import write_archive
from tests.radserve.versions.conftest import ADA, NAME, Disk, Service

pytestmark = pytest.mark.anyio


async def roll_back(service: Service, version: str = "2.0.0") -> None:
    """Roll out a version that fails."""
    rollout = await start(service, version)
    await service.until(lambda: rollout.share > 0)
    service.observe(version, 500, count=5)
    await service.end(rollout)
    await service.until(lambda: service.registered == {"1.0.0"})


async def start(service: Service, version: str = "2.0.0", steps: Sequence[float] = (100,)) -> Rollout:
    spec = RolloutSpec.model_validate({"version": version, "step_seconds": 0, "min_requests": 5, "steps": steps})
    return await service.rollouts.start(NAME, spec, ADA)


def default(service: Service, state: State | None = None) -> list[str]:
    """Return the version that a server with another state selects."""
    digests = [item.sha256 for item in (state or State()).quarantine]
    return [model.entry.version for model in select(service.store, [NAME], digests)]


def entry(service: Service, version: str = "2.0.0") -> Entry:
    found = model_store.read(service.store).find(NAME, version)
    assert found is not None
    return found


async def test_a_server_with_another_state_does_not_select_a_version_that_was_rolled_back(
    proxied: Service, caplog: pytest.LogCaptureFixture
) -> None:
    assert default(proxied) == ["2.0.0"]
    await roll_back(proxied)
    assert default(proxied) == ["1.0.0"]
    assert [model.entry.version for model in select(proxied.store, [])] == ["1.0.0"]
    assert "brightness 2.0.0 is in quarantine, because it was rolled back" in caplog.text
    assert "5 of 5 requests failed with 5xx" in (entry(proxied).quarantine or "")
    assert [model.entry.version for model in select(proxied.store, [f"{NAME}/2.0.0"])] == ["2.0.0"]


async def test_a_version_that_does_not_start_is_put_into_quarantine(proxied: Service) -> None:
    write_archive(proxied.store, version="3.0.0", initialize="raise RuntimeError('no such file')")
    await proxied.end(await start(proxied, "3.0.0"))
    assert default(proxied) == ["2.0.0"]
    assert "no such file" in (entry(proxied, "3.0.0").quarantine or "")


async def test_an_aborted_version_is_put_into_quarantine(proxied: Service) -> None:
    rollout = await start(proxied)
    await proxied.until(lambda: rollout.share > 0)
    await rollout.abort(ADA)
    assert entry(proxied).quarantine == "aborted by user ada: test"


async def no_verdict(service: Service, rollout: Rollout) -> None:
    """Check that a rollout is rolled back without a quarantine."""
    assert (await service.end(rollout)).phase == "rolled_back"
    assert service.deployment_state.state.quarantine == ()
    await service.until(lambda: service.routed == {"1.0.0"})
    assert default(service) == ["2.0.0"]


async def test_a_full_disk_is_no_verdict_about_the_version(proxied: Service, disk: Disk) -> None:
    rollout = await start(proxied, steps=[10, 100])
    await proxied.until(lambda: rollout.share > 0)
    disk.full = True
    proxied.observe("2.0.0", count=5)
    await proxied.until(lambda: rollout.done)
    disk.full = False
    await no_verdict(proxied, rollout)


async def test_a_silent_torchserve_is_no_verdict_about_the_version(proxied: Service) -> None:
    rollout = await start(proxied)
    await proxied.until(lambda: rollout.share > 0)
    proxied.torchserve.behavior.delay = 2.0
    await no_verdict(proxied, rollout)


async def test_a_torchserve_that_starts_no_workers_is_no_verdict_about_the_version(proxied: Service) -> None:
    proxied.torchserve.behavior.scale_status = 500
    await no_verdict(proxied, await start(proxied))


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
    await no_verdict(proxied, await start(proxied))


async def test_an_internal_error_is_no_verdict_about_the_version(
    proxied: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radserve.versions.rollout.decide", lambda *_: 1 / 0)
    await no_verdict(proxied, await start(proxied))


async def test_errors_of_both_versions_are_no_verdict_about_the_new_one(proxied: Service) -> None:
    rollout = await start(proxied, steps=[10, 100])
    await proxied.until(lambda: rollout.share > 0)
    proxied.observe("1.0.0", 502, count=50)
    proxied.observe("2.0.0", 502, count=5)
    await no_verdict(proxied, rollout)
    assert "the stable version as well: 50 of 50 requests failed with 5xx" in rollout.status().detail


async def test_the_quarantine_is_that_of_the_served_archive(proxied: Service) -> None:
    served = entry(proxied).sha256
    rollout = await start(proxied)
    await proxied.until(lambda: rollout.share > 0)
    write_archive(proxied.store, version="2.0.0", members={"CARD.md": "rebuilt meanwhile"})
    proxied.observe("2.0.0", 500, count=5)
    await proxied.end(rollout)
    (item,) = proxied.deployment_state.state.quarantine
    assert item.sha256 == served
    assert default(proxied, proxied.stored) == ["2.0.0"]
    assert entry(proxied).quarantine is None


async def test_a_rollback_puts_the_served_archive_into_quarantine(service: Service) -> None:
    served = entry(service).sha256
    await service.version_manager.register(NAME, "2.0.0", None, ADA)
    await service.version_manager.promote(NAME, "2.0.0", ADA)
    write_archive(service.store, version="2.0.0", members={"CARD.md": "rebuilt meanwhile"})
    await service.version_manager.rollback(NAME, ADA)
    assert [item.sha256 for item in service.deployment_state.state.quarantine] == [served]


async def test_other_changes_do_not_lift_a_mark_of_another_server(service: Service) -> None:
    stable = entry(service, "1.0.0").sha256
    model_store.quarantine(service.store, NAME, {stable: "slow", entry(service).sha256: "slow"}, ())
    await service.version_manager.register(NAME, "2.0.0", None, ADA)
    await service.version_manager.scale(NAME, "1.0.0", 2, ADA)
    assert entry(service, "1.0.0").quarantine == "slow"
    assert entry(service).quarantine == "slow"
    await service.version_manager.promote(NAME, "2.0.0", ADA)
    assert entry(service).quarantine is None
    await service.version_manager.scale(NAME, "2.0.0", 2, ADA)
    assert entry(service, "1.0.0").quarantine == "slow"


async def test_other_changes_do_not_mark_what_another_server_has_released(proxied: Service) -> None:
    await roll_back(proxied)
    model_store.quarantine(proxied.store, NAME, {}, {"2.0.0"})
    await proxied.version_manager.scale(NAME, "1.0.0", 2, ADA)
    write_archive(proxied.store, version="3.0.0", initialize="raise RuntimeError('no such file')")
    await proxied.end(await start(proxied, "3.0.0"))
    assert entry(proxied, "3.0.0").quarantine is not None
    assert entry(proxied).quarantine is None


async def test_a_release_keeps_the_mark_of_a_rollback_that_comes_after_it(
    proxied: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await roll_back(proxied)
    state, lift = proxied.deployment_state, proxied.deployment_state.lift_mark

    async def roll_back_again(name: str, version: str) -> None:
        change = partial(State.with_quarantine, archive=entry(proxied), reason="again")
        await state.commit(change, ADA, "rollback", "rolled back", (NAME, "2.0.0"), act_first=True)
        await lift(name, version)

    monkeypatch.setattr(state, "lift_mark", roll_back_again)
    with pytest.raises(ChangeError, match="was rolled back again"):
        await proxied.version_manager.release(NAME, "2.0.0", ADA)
    assert entry(proxied).quarantine == "again"


async def test_a_promotion_that_fails_lifts_no_mark(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    stable = entry(service, "1.0.0").sha256
    model_store.quarantine(service.store, NAME, {stable: "slow", entry(service).sha256: "slow"}, ())
    await service.version_manager.register(NAME, "2.0.0", None, ADA)

    async def fail(*_: object) -> None:
        monkeypatch.undo()
        raise OSError("no space")

    monkeypatch.setattr(service.registry, "make_default", fail)
    with pytest.raises(ChangeError):
        await service.version_manager.promote(NAME, "2.0.0", ADA)
    assert (entry(service, "1.0.0").quarantine, entry(service).quarantine) == ("slow", "slow")


async def test_the_first_version_of_a_model_leaves_quarantine_when_it_is_registered(service: Service) -> None:
    write_archive(service.store, "contrast")
    archive = model_store.read(service.store).find("contrast", "1.0.0")
    assert archive is not None
    model_store.quarantine(service.store, "contrast", {archive.sha256: "slow"}, ())
    await service.version_manager.register("contrast", "1.0.0", None, ADA)
    assert model_store.read(service.store).find("contrast", "1.0.0").quarantine is None  # type: ignore[union-attr]


async def test_a_mark_that_is_requested_while_another_is_written_is_written_too(
    proxied: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = model_store.quarantine
    started, proceed = threading.Event(), threading.Event()

    def slow(*arguments: Any) -> None:
        started.set()
        proceed.wait(5)
        original(*arguments)

    rollout = await start(proxied)
    await proxied.until(lambda: rollout.share > 0)
    with monkeypatch.context() as patch:
        patch.setattr(model_store, "quarantine", slow)
        state = proxied.deployment_state
        earlier = asyncio.create_task(state.commit(lambda state: state, ADA, "test", "unchanged", (NAME, None)))
        await proxied.until(started.is_set)
        abort = asyncio.create_task(rollout.abort(ADA))
        await proxied.until(lambda: state.state.quarantine != ())
        proceed.set()
        await asyncio.gather(earlier, abort)
    assert entry(proxied).quarantine == "aborted by user ada: test"


async def test_an_unknown_version_changes_nothing(proxied: Service) -> None:
    assert (await proxied.end(await start(proxied, "9.0.0"))).phase == "rolled_back"
    assert proxied.deployment_state.state.quarantine == ()
    assert default(proxied) == ["2.0.0"]


async def test_the_state_knows_the_quarantine_of_a_read_only_store(
    proxied: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read_only(*_: object) -> None:
        raise ArchiveError("read-only") from OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(model_store, "locked", read_only)
    await roll_back(proxied)
    assert default(proxied) == ["2.0.0"]
    assert default(proxied, proxied.stored) == ["1.0.0"]
    assert "only servers with this state know the quarantine of brightness" in caplog.text
    assert proxied.deployment_state.problem is None


async def test_a_full_store_is_marked_when_that_is_possible(
    proxied: Service, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = await start(proxied)
    await proxied.until(lambda: rollout.share > 0)
    disk.full = True
    await rollout.abort(ADA)
    assert "not stored" in (proxied.deployment_state.problem or "")
    assert entry(proxied).quarantine is None
    disk.full = False
    await proxied.until(lambda: proxied.deployment_state.problem is None)
    assert entry(proxied).quarantine == "aborted by user ada: test"


async def test_a_store_that_cannot_be_marked_is_a_problem(
    proxied: Service, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(model_store, "quarantine", lambda *_: (_ for _ in ()).throw(OSError("broken")))
        await roll_back(proxied)
        assert "does not show what is in quarantine: broken" in (proxied.deployment_state.problem or "")
    await proxied.until(lambda: proxied.deployment_state.problem is None)
    assert default(proxied) == ["1.0.0"]


async def test_a_rollback_puts_the_version_it_leaves_into_quarantine(service: Service) -> None:
    manager = service.version_manager
    await manager.register(NAME, "2.0.0", None, ADA)
    await manager.promote(NAME, "2.0.0", ADA)
    await manager.rollback(NAME, ADA)
    assert entry(service).quarantine == "rolled back by user ada: test"
    with pytest.raises(ConflictError, match=r"previous version 2\.0\.0 is in quarantine.*models promote brightness 2"):
        await manager.rollback(NAME, ADA)
    await manager.promote(NAME, "2.0.0", ADA)
    assert entry(service).quarantine is None
    assert service.deployment_state.state.quarantine == ()


async def test_a_rollout_that_succeeds_lifts_the_quarantine(proxied: Service) -> None:
    await roll_back(proxied)
    rollout = await start(proxied)
    await proxied.until(lambda: rollout.share > 0)
    proxied.observe("2.0.0", count=5)
    assert (await proxied.end(rollout)).phase == "promoted"
    assert entry(proxied).quarantine is None
    assert proxied.stored.quarantine == ()


async def test_a_new_archive_of_the_same_version_is_not_in_quarantine(proxied: Service) -> None:
    await roll_back(proxied)
    write_archive(proxied.store, version="2.0.0", members={"CARD.md": "new"})
    assert default(proxied, proxied.stored) == ["2.0.0"]


async def test_the_same_archive_stays_in_quarantine(proxied: Service) -> None:
    await roll_back(proxied)
    same = entry(proxied).model_copy(update={"quarantine": None})
    assert model_store.read(proxied.store).put(same).find(NAME, "2.0.0") == entry(proxied)


async def test_the_quarantine_is_shown_and_lifted(proxied: Service, stack: AsyncExitStack) -> None:
    await roll_back(proxied)
    document = (await proxied.client.get("/versions")).json()
    (item,) = document["models"][0]["quarantined"]
    assert (item["version"], item["sha256"]) == ("2.0.0", entry(proxied).sha256)
    released = await proxied.client.post(f"/versions/{NAME}/2.0.0/release", json={"reason": "a false alarm"})
    assert released.json()["quarantined"] == []
    assert default(proxied, proxied.stored) == ["2.0.0"]
    assert proxied.audit[-1] == ("release", "brightness 2.0.0: released.")
    with pytest.raises(NotServedError, match="is not in quarantine"):
        await proxied.version_manager.release(NAME, "2.0.0", ADA)


async def test_a_mark_of_another_server_is_lifted(service: Service) -> None:
    sha256 = entry(service).sha256
    model_store.quarantine(service.store, NAME, {sha256: "slow"}, ())
    model_store.quarantine(service.store, "other", {sha256: "other"}, {"2.0.0"})
    assert (await service.views.model(NAME)).quarantined[0].reason == "slow"
    await service.version_manager.release(NAME, "2.0.0", ADA)
    assert entry(service).quarantine is None


async def test_a_release_that_cannot_be_marked_is_an_error(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    model_store.quarantine(service.store, NAME, {entry(service).sha256: "slow"}, ())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(model_store, "write", full)
    response = await service.client.post(f"/versions/{NAME}/2.0.0/release", json={})
    assert response.status_code == 500
    assert "still in quarantine in the model store: " in response.json()["detail"]


async def test_a_store_with_only_quarantined_archives_says_so(tmp_path: Path) -> None:
    store = tmp_path / "other"
    write_archive(store)
    found = model_store.read(store).find(NAME)
    assert found is not None
    model_store.quarantine(store, NAME, {found.sha256: "slow"}, ())
    with pytest.raises(ServeError, match="every archive is in quarantine; name a version"):
        select(store, [])
    with pytest.raises(ServeError, match="every version of brightness is in quarantine"):
        select(store, [NAME])


async def test_a_damaged_index_does_not_stop_a_rollback(proxied: Service, disk: Disk) -> None:
    rollout = await start(proxied)
    await proxied.until(lambda: rollout.share > 0)
    index = (proxied.store / model_store.FILE).read_text()
    (proxied.store / model_store.FILE).write_text("{")
    assert await rollout.abort(ADA)
    assert "does not show what is in quarantine" in (proxied.deployment_state.problem or "")
    assert await proxied.version_manager.quarantine() == {}
    (proxied.store / model_store.FILE).write_text(index)
    await proxied.until(lambda: proxied.deployment_state.problem is None)


async def test_the_index_is_read_once_for_all_models(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("contrast", "sharpness"):
        write_archive(service.store, name)
        await service.version_manager.register(name, "1.0.0", None, ADA)
    threads: list[threading.Thread] = []
    original = model_store.read

    def read(store: Path) -> model_store.Index:
        threads.append(threading.current_thread())
        return original(store)

    monkeypatch.setattr(model_store, "read", read)
    assert (await service.client.get("/versions")).status_code == 200
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()  # which answers all other requests


async def test_a_registration_does_not_list_the_quarantine_again(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    write_archive(service.store, version="3.0.0")
    digests = [entry(service, version).sha256 for version in ("2.0.0", "3.0.0")]
    model_store.quarantine(service.store, NAME, dict.fromkeys(digests, "slow"), ())
    await service.version_manager.register(NAME, "2.0.0", None, ADA)
    assert "is in quarantine" not in caplog.text
    select(service.store, [NAME])
    assert "brightness 3.0.0 is in quarantine" in caplog.text
