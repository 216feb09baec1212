"""Tests of radserve.versions.quarantine: archives that were rolled back are served only where they are named."""

import asyncio
import errno
import os
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from radserve.build import model_store
from radserve.errors import ArchiveError, ServeError
from radserve.torchserve.verified_models import select
from radserve.versions.stored_state import State
from tests.radserve.minimal_archive import write_archive
from tests.radserve.versions.conftest import ADA, NAME, Disk, Service

pytestmark = pytest.mark.anyio


async def test_a_server_with_another_state_does_not_select_a_version_that_was_rolled_back(
    proxied: Service, caplog: pytest.LogCaptureFixture
) -> None:
    assert proxied.selected() == ["2.0.0"]
    await proxied.fail_rollout()
    assert proxied.selected() == ["1.0.0"]
    assert [model.entry.version for model in select(proxied.store, [])] == ["1.0.0"]
    assert "brightness 2.0.0 is in quarantine, because it was rolled back" in caplog.text
    assert "5 of 5 requests failed with 5xx" in (proxied.archive().quarantine or "")
    assert [model.entry.version for model in select(proxied.store, [f"{NAME}/2.0.0"])] == ["2.0.0"]


async def test_a_mark_that_is_requested_while_another_is_written_is_written_too(
    proxied: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = model_store.quarantine
    started, proceed = threading.Event(), threading.Event()

    def slow(*arguments: Any) -> model_store.Index:
        started.set()
        proceed.wait(5)
        return original(*arguments)

    rollout = await proxied.begin_canary()
    with monkeypatch.context() as patch:
        patch.setattr(model_store, "quarantine", slow)
        state = proxied.deployment_state
        other = partial(State.with_quarantine, archive=proxied.archive("1.0.0"), reason="test")
        earlier = asyncio.create_task(state.commit(other, ADA, "test", "quarantined", (NAME, None)))
        await proxied.until(started.is_set)
        abort = asyncio.create_task(rollout.abort(ADA))
        await proxied.until(lambda: len(state.state.quarantine) == 2)
        proceed.set()
        await asyncio.gather(earlier, abort)
    assert proxied.archive().quarantine == "aborted by user ada: test"


async def test_the_state_knows_the_quarantine_of_a_read_only_store(
    proxied: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read_only(*_: object) -> None:
        raise ArchiveError("read-only") from OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(model_store, "locked", read_only)
    await proxied.fail_rollout()
    assert proxied.selected() == ["2.0.0"]
    assert proxied.selected(proxied.stored) == ["1.0.0"]
    assert "only servers with this state know what is in quarantine" in caplog.text
    assert proxied.deployment_state.problem is None


async def test_a_full_store_is_marked_when_that_is_possible(
    proxied: Service, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = await proxied.begin_canary()
    disk.full = True
    await rollout.abort(ADA)
    assert "not stored" in (proxied.deployment_state.problem or "")
    assert proxied.archive().quarantine is None
    disk.full = False
    await proxied.until(lambda: proxied.deployment_state.problem is None)
    assert proxied.archive().quarantine == "aborted by user ada: test"


async def test_a_store_that_cannot_be_marked_is_a_problem(
    proxied: Service, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(model_store, "quarantine", lambda *_: (_ for _ in ()).throw(OSError("broken")))
        await proxied.fail_rollout()
        assert "does not show what is in quarantine: broken" in (proxied.deployment_state.problem or "")
    await proxied.until(lambda: proxied.deployment_state.problem is None)
    assert proxied.selected() == ["1.0.0"]


async def test_a_new_archive_of_the_same_version_is_not_in_quarantine(proxied: Service) -> None:
    await proxied.fail_rollout()
    write_archive(proxied.store, version="2.0.0", members={"CARD.md": "new"})
    assert proxied.selected(proxied.stored) == ["2.0.0"]


async def test_the_same_archive_stays_in_quarantine(proxied: Service) -> None:
    await proxied.fail_rollout()
    same = proxied.archive().model_copy(update={"quarantine": None})
    assert model_store.read(proxied.store).put(same).find(NAME, "2.0.0") == proxied.archive()


async def test_a_store_with_only_quarantined_archives_says_so(tmp_path: Path) -> None:
    store = tmp_path / "other"
    write_archive(store)
    entry = model_store.read(store).find(NAME)
    assert entry is not None
    model_store.quarantine(store, NAME, {entry.sha256: "slow"}, ())
    with pytest.raises(ServeError, match="every archive is in quarantine; name a version"):
        select(store, [])
    with pytest.raises(ServeError, match="every version of brightness is in quarantine"):
        select(store, [NAME])


async def test_a_damaged_index_does_not_stop_a_rollback(proxied: Service, disk: Disk) -> None:
    rollout = await proxied.begin_canary()
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
    digests = [service.archive(version).sha256 for version in ("2.0.0", "3.0.0")]
    model_store.quarantine(service.store, NAME, dict.fromkeys(digests, "slow"), ())
    await service.version_manager.register(NAME, "2.0.0", None, ADA)
    assert "is in quarantine" not in caplog.text
    select(service.store, [NAME])
    assert "brightness 3.0.0 is in quarantine" in caplog.text


async def test_a_new_index_does_not_end_the_quarantine_of_the_server_that_rolled_back(proxied: Service) -> None:
    index = (proxied.store / model_store.FILE).read_text()
    await proxied.fail_rollout()
    assert proxied.stored.quarantine[0].marked
    (proxied.store / model_store.FILE).write_text(index)
    assert (NAME, "2.0.0") in await proxied.version_manager.quarantine()
    assert proxied.selected(proxied.stored) == ["1.0.0"]
    await proxied.version_manager.release(NAME, "2.0.0", ADA)
    assert proxied.selected(proxied.stored) == ["2.0.0"]


async def test_a_rollback_ends_an_earlier_release(proxied: Service) -> None:
    index = (proxied.store / model_store.FILE).read_text()
    await proxied.fail_rollout()
    await proxied.version_manager.release(NAME, "2.0.0", ADA)
    await proxied.fail_rollout()
    (proxied.store / model_store.FILE).write_text(index)
    assert proxied.selected(proxied.stored) == ["1.0.0"]


async def test_damaged_releases_end_no_quarantine(proxied: Service) -> None:
    await proxied.fail_rollout()
    model_store.quarantine(proxied.store, NAME, {}, {"2.0.0"})
    (proxied.store / model_store.RELEASES).write_text("[")
    assert proxied.selected(proxied.stored) == ["1.0.0"]
