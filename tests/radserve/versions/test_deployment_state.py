"""Tests of radserve.versions.deployment_state against a fake TorchServe."""

import asyncio
import errno

import httpx
import pytest

from radserve.errors import ChangeError
from radserve.host import background
from radserve.schema.control import AuditEntry
from radserve.schema.rollout import RolloutSpec
from radserve.versions.audit_log import AuditLog
from radserve.versions.deployment_state import FAILURES, PENDING
from radserve.versions.shadow import ShadowComparison
from radserve.versions.stored_state import State, StateFolder
from tests.radserve.versions.conftest import ADA, NAME, Disk, Service

pytestmark = pytest.mark.anyio


@pytest.fixture
async def two_versions(service: Service) -> Service:
    """A server with version 2.0.0 on standby."""
    await service.version_manager.register(NAME, "2.0.0", None, ADA)
    return service


def promote(state: State) -> State:
    return state.with_shares(NAME, {"2.0.0": 100.0})


async def commit(service: Service, *, act_first: bool = False) -> None:
    model_version = service.version_manager.registered_version(NAME, "2.0.0")
    await service.deployment_state.commit(promote, ADA, "promote", "promoted", model_version, act_first=act_first)


async def test_nothing_is_stored_before_the_first_change(service: Service) -> None:
    assert service.shares == {"1.0.0": 100}
    assert not service.state_folder.exists()


async def test_a_committed_change_is_stored_recorded_logged_and_applied(
    two_versions: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await commit(two_versions)
    assert two_versions.torchserve.defaults == {NAME: "2.0.0"}
    assert StateFolder(two_versions.state_folder).state == two_versions.deployment_state.state
    entry = two_versions.deployment_state.audit.entries(1)[0]
    assert (entry.actor, entry.reason, entry.detail) == ("user ada", "test", "brightness 2.0.0: promoted.")
    assert entry.sha256 == two_versions.registry.of(NAME)[1].entry.sha256
    assert "brightness 2.0.0: promoted. (user ada: test)" in caplog.text


async def test_a_change_that_torchserve_rejects_is_reverted_and_the_failure_recorded(two_versions: Service) -> None:
    behavior = two_versions.torchserve.behavior
    before = two_versions.deployment_state.deployment
    behavior.status = 500
    with pytest.raises(ChangeError, match=r"promoted\. Failed and reverted: .*500"):
        await commit(two_versions)
    assert two_versions.deployment_state.deployment == before
    assert StateFolder(two_versions.state_folder).state.deployment == before
    assert two_versions.audit[-1][1].startswith("brightness 2.0.0: promoted. Failed and reverted:")
    behavior.status = None
    await commit(two_versions)
    assert two_versions.torchserve.defaults == {NAME: "2.0.0"}


async def test_a_change_that_cannot_be_recorded_is_not_made(two_versions: Service, disk: Disk) -> None:
    disk.full = True
    with pytest.raises(ChangeError, match=r"audit\.jsonl: not writable \(No space left on device\)"):
        await commit(two_versions)
    assert two_versions.torchserve.defaults == {NAME: "1.0.0"}
    assert two_versions.shares == {"1.0.0": 100, "2.0.0": 0}
    assert two_versions.deployment_state.problem is None


async def test_a_change_that_is_recorded_but_not_stored_is_reverted(
    two_versions: Service, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = AuditLog.write

    def write(log: AuditLog, entry: AuditEntry) -> None:
        original(log, entry)
        disk.full = True

    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, "write", write)
        with pytest.raises(ChangeError, match="Failed and reverted"):
            await commit(two_versions)
    disk.full = False
    await two_versions.until(lambda: two_versions.deployment_state.problem is None)
    assert two_versions.shares == {"1.0.0": 100, "2.0.0": 0}
    assert "Failed and reverted" in two_versions.audit[-1][1]
    assert two_versions.stored.versions(NAME)["2.0.0"].share == 0


async def test_a_safety_measure_is_taken_at_once_and_stored_when_that_is_possible(
    two_versions: Service, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    failures = FAILURES._value.get()
    disk.full = True
    await commit(two_versions, act_first=True)
    assert two_versions.torchserve.defaults == {NAME: "2.0.0"}
    assert two_versions.shares == {"1.0.0": 0, "2.0.0": 100}
    assert two_versions.deployment_state.problem == (
        "A change is in effect but not stored, and a restart would undo it: "
        f"{two_versions.state_folder / 'audit.jsonl'}: not writable (No space left on device); changes are rejected."
    )
    assert PENDING._value.get() == 1
    with pytest.raises(ChangeError, match="not writable"):
        await two_versions.version_manager.scale(NAME, "1.0.0", 2, ADA)
    await two_versions.until(lambda: FAILURES._value.get() > failures + 2)
    disk.full = False
    await two_versions.until(lambda: two_versions.deployment_state.problem is None)
    assert PENDING._value.get() == 0
    assert two_versions.stored == two_versions.deployment_state.state
    assert [action for action, _ in two_versions.audit] == ["register", "promote"]
    assert two_versions.deployment_state.audit.verify().problem is None
    assert caplog.text.count("A change is in effect but not stored") == 1
    assert "every change is in effect and stored" in caplog.text


async def test_a_change_stores_an_earlier_safety_measure_first(
    two_versions: Service, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radserve.versions.deployment_state._RETRY_SECONDS", 60.0)
    disk.full = True
    await commit(two_versions, act_first=True)
    disk.full = False
    await two_versions.version_manager.scale(NAME, "1.0.0", 2, ADA)
    assert [action for action, _ in two_versions.audit] == ["register", "promote", "scale"]


async def test_a_safety_measure_on_a_disk_that_is_full_since_the_start_is_stored_later(
    two_versions: Service, disk: Disk
) -> None:
    two_versions.deployment_state.folder.release()  # as after a restart: no change has locked the folder yet
    disk.full = True
    await commit(two_versions, act_first=True)
    disk.full = False
    await two_versions.until(lambda: two_versions.deployment_state.problem is None)
    assert two_versions.stored.versions(NAME)["2.0.0"].share == 100


async def test_a_safety_measure_that_torchserve_rejects_is_stored_and_tried_again(
    two_versions: Service, disk: Disk
) -> None:
    two_versions.torchserve.behavior.status = 500
    with pytest.raises(ChangeError, match=r"promoted\. Not in effect yet, tried again: TorchServe or the proxy.*500"):
        await commit(two_versions, act_first=True)
    assert two_versions.stored.versions(NAME)["2.0.0"].share == 100
    assert two_versions.audit[-1] == ("promote", "brightness 2.0.0: promoted.")
    # The proxy does not wait for TorchServe.
    assert (two_versions.directory.routing / "shares" / NAME / "9").resolve().name == "2.0.0"
    two_versions.torchserve.behavior.status = None
    await two_versions.until(lambda: two_versions.deployment_state.problem is None)
    assert two_versions.torchserve.defaults == {NAME: "2.0.0"}


async def test_without_space_for_tables_the_main_version_receives_all_requests(
    two_versions: Service, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = two_versions.deployment_state
    await manager.commit(
        lambda state: state.with_shares(NAME, {"1.0.0": 60.0, "2.0.0": 40.0}), ADA, "share", "split", (NAME, None)
    )
    assert (two_versions.directory.routing / "shares" / NAME).exists()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("radserve.proxy.traffic_split._write_tables", fail)
        with pytest.raises(ChangeError, match="Not in effect yet"):
            await manager.commit(
                lambda state: state.with_shares(NAME, {"1.0.0": 70.0, "2.0.0": 30.0}),
                ADA,
                "share",
                "split",
                (NAME, None),
                act_first=True,
            )
        assert not two_versions.directory.routing.exists()
        assert manager.problem is not None
    await two_versions.until(lambda: manager.problem is None)
    assert two_versions.shares == {"1.0.0": 70, "2.0.0": 30}
    assert (two_versions.directory.routing / "shares" / NAME).exists()


async def test_the_tables_list_the_registered_versions(two_versions: Service) -> None:
    def listed() -> list[str]:
        return sorted(path.name for path in (two_versions.directory.routing / "registered" / NAME).iterdir())

    assert listed() == ["1.0.0", "2.0.0"]
    await two_versions.version_manager.unregister(NAME, "2.0.0", ADA)
    await two_versions.until(lambda: listed() == ["1.0.0"])


async def test_a_version_is_not_closed_for_ever_if_that_fails(
    two_versions: Service, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = two_versions.deployment_state
    with monkeypatch.context() as patch:
        patch.setattr("radserve.proxy.traffic_split._write_tables", lambda *_: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(OSError, match="full"):
            async with manager.closed((NAME, "3.0.0")):
                pass
    assert manager.routes._closed == set()
    await two_versions.until(lambda: manager.problem is None)


async def test_a_stop_reports_what_could_not_be_stored(
    two_versions: Service, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    disk.full = True
    await commit(two_versions, act_first=True)
    await two_versions.version_manager.stop()
    assert "stopping with changes pending: A change is in effect but not stored" in caplog.text


async def test_a_cancelled_caller_leaves_a_complete_change(two_versions: Service) -> None:
    two_versions.torchserve.behavior.delay = 0.2
    task = asyncio.create_task(commit(two_versions))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert two_versions.torchserve.defaults == {NAME: "2.0.0"}
    assert two_versions.shares == {"1.0.0": 0, "2.0.0": 100}


async def test_a_failed_synchronization_is_reported(service: Service) -> None:
    service.torchserve.die()
    service.deployment_state.routes.forget_default((NAME, "1.0.0"))
    service.deployment_state.routes.forget_default((NAME, "1.0.0"))
    with pytest.raises(httpx.HTTPError):
        await service.deployment_state.synchronize()


async def test_changes_of_one_model_may_overlap(two_versions: Service) -> None:
    begun, proceed = asyncio.Event(), asyncio.Event()

    async def effect() -> None:
        begun.set()
        await proceed.wait()
        raise OSError("no space")

    state = two_versions.deployment_state
    archive = two_versions.registry.of(NAME)[0].entry
    await state.commit(lambda state: state.with_quarantine(archive, "slow"), ADA, "test", "zeroth", (NAME, None))
    first = asyncio.create_task(state.commit(promote, ADA, "test", "first", (NAME, None), effect=effect))
    await begun.wait()
    await state.commit(lambda state: state.updated(), ADA, "test", "second", (NAME, None))
    await state.commit(lambda state: state.without_quarantine(NAME, "1.0.0"), ADA, "test", "third", (NAME, None))
    proceed.set()
    with pytest.raises(ChangeError, match=r"first\. Failed and reverted: no space"):
        await first
    assert two_versions.shares == {"1.0.0": 100, "2.0.0": 0}
    assert state.state.quarantine == two_versions.stored.quarantine == ()


async def test_an_unexpected_error_reverts_a_change_too(two_versions: Service) -> None:
    async def effect() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await two_versions.deployment_state.commit(promote, ADA, "test", "promoted", (NAME, None), effect=effect)
    assert two_versions.shares == {"1.0.0": 100, "2.0.0": 0}
    assert two_versions.stored.versions(NAME)["1.0.0"].share == 100


async def test_a_safety_measure_is_stored_while_torchserve_does_not_respond(two_versions: Service) -> None:
    two_versions.torchserve.behavior.delay = 60.0
    task = asyncio.create_task(commit(two_versions, act_first=True))
    await two_versions.until(lambda: two_versions.stored.versions(NAME)["2.0.0"].share == 100, 5)
    assert two_versions.routed == {"2.0.0"}
    assert not task.done()
    two_versions.torchserve.die()
    with pytest.raises(ChangeError):
        await task


@pytest.mark.parametrize("name", ["rollout", "unregistration", "shadow comparison", "storing of changes"])
async def test_a_failure_of_a_background_task_is_counted(
    service: Service, name: str, monkeypatch: pytest.MonkeyPatch, disk: Disk
) -> None:
    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    for task in (
        "rollout.Rollout._run",
        "unregistration.Unregistration._unregister",
        "shadow.ShadowComparison._work",
        "deployment_state.DeploymentStateManager._retry",
    ):
        monkeypatch.setattr(f"radserve.versions.{task}", fail)
    counter = background.FAILURES.labels(task=name)
    before = counter._value.get()
    if name == "rollout":
        await service.rollouts.start(NAME, RolloutSpec(version="2.0.0"), ADA)
    elif name == "unregistration":
        service.unregistration.start(service.version_manager.registered_version(NAME, "1.0.0"))
    elif name == "shadow comparison":
        ShadowComparison(service.directory.inference, NAME, "1.0.0", "2.0.0")
    else:
        disk.full = True
        await service.deployment_state.commit(
            lambda state: state.updated(), ADA, "test", "unchanged", (NAME, None), act_first=True
        )
    await service.until(lambda: counter._value.get() == before + 1)
