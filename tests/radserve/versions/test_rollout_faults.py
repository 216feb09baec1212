"""Tests of radserve.versions.rollout while disks, TorchServe or the rollout itself fail."""

import asyncio
import time

import pytest

from radserve.versions import rollout as rollout_module
from tests.radserve.versions.conftest import ADA, NAME, Disk, Service
from tests.radserve.versions.rollouts import reach, start, start_canary

pytestmark = pytest.mark.anyio


async def test_a_full_disk_does_not_keep_a_faulty_version_in_service(
    proxied: Service, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    rollout = await start_canary(proxied)
    disk.full = True
    proxied.observe("2.0.0", 500, count=5)
    assert (await proxied.end(rollout)).phase == "rolled_back"
    assert proxied.routed == {"1.0.0"}
    await proxied.until(lambda: proxied.registered == {"1.0.0"})
    assert "A change is in effect but not stored" in caplog.text
    assert proxied.stored.rollouts != {}
    disk.full = False
    await proxied.until(lambda: proxied.stored.rollouts == {})
    assert "rolled back; 1.0.0 receives all requests: " in proxied.audit[-1][1]


async def test_a_rollout_is_aborted_on_a_full_disk(proxied: Service, disk: Disk) -> None:
    rollout = await start_canary(proxied)
    disk.full = True
    assert await rollout.abort(ADA)
    assert rollout.status().detail == "aborted by user ada: test."
    assert proxied.routed == {"1.0.0"}


async def test_a_step_that_cannot_be_recorded_rolls_back(proxied: Service, disk: Disk) -> None:
    rollout = await start_canary(proxied, steps=[10, 100])
    disk.full = True
    proxied.observe("2.0.0", count=5)
    final = await proxied.end(rollout)
    assert final.phase == "rolled_back"
    assert "No space left on device" in final.detail
    assert proxied.routed == {"1.0.0"}


async def test_a_promotion_that_fails_on_a_full_disk_ends_with_the_stable_version(
    proxied: Service, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = await start_canary(proxied, steps=[100])
    original = proxied.registry.make_default

    async def fail(*_: object) -> None:
        proxied.registry.make_default = original  # type: ignore[method-assign]
        disk.full = True
        raise OSError("no space")

    monkeypatch.setattr(proxied.registry, "make_default", fail)
    proxied.observe("2.0.0", count=5)
    assert (await proxied.end(rollout)).phase == "rolled_back"
    assert proxied.shares == {"1.0.0": 100}
    assert proxied.routed == {"1.0.0"}
    disk.full = False
    await proxied.until(lambda: proxied.deployment_state.problem is None)
    assert proxied.stored.versions(NAME).keys() == {"1.0.0"}


async def test_a_rollback_is_logged_after_it_happened(
    proxied: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = await start_canary(proxied)
    logged: list[str] = []
    monkeypatch.setattr(proxied.deployment_state, "synchronize", lambda: _note(logged, caplog))
    proxied.observe("2.0.0", 500, count=5)
    await proxied.end(rollout)
    assert "rolled back" not in logged[0]
    assert "brightness 2.0.0: rolled back; 1.0.0 receives all requests" in caplog.text


async def _note(logged: list[str], caplog: pytest.LogCaptureFixture) -> None:
    logged.append(caplog.text)


async def test_a_rollback_that_does_not_take_effect_says_so(proxied: Service, disk: Disk) -> None:
    rollout = await start_canary(proxied)
    original = proxied.deployment_state.synchronize

    async def fail() -> None:
        proxied.deployment_state.synchronize = original  # type: ignore[method-assign]
        raise OSError("read-only")

    proxied.deployment_state.synchronize = fail  # type: ignore[method-assign]
    proxied.observe("2.0.0", 500, count=5)
    final = await proxied.end(rollout)
    assert "Not in effect yet, tried again: TorchServe or the proxy was not updated: read-only" in final.detail
    await proxied.until(lambda: proxied.routed == {"1.0.0"})


async def test_a_version_is_rolled_back_if_torchserve_dies(proxied: Service, caplog: pytest.LogCaptureFixture) -> None:
    rollout = await start_canary(proxied)
    proxied.torchserve.die()
    assert (await proxied.end(rollout)).phase == "rolled_back"
    assert proxied.routed == {"1.0.0"}


async def test_a_silent_management_api_does_not_roll_back_while_the_traffic_is_good(proxied: Service) -> None:
    rollout = await start_canary(proxied, steps=[10, 100])
    proxied.torchserve.behavior.delay = 0.6  # longer than a request may take
    proxied.observe("2.0.0", count=5)
    await asyncio.sleep(0.4)
    assert rollout.share == 10  # a step does not end before the workers were counted
    proxied.torchserve.behavior.delay = 0.0
    await reach(proxied, rollout, 100)
    proxied.observe("2.0.0", count=5)
    assert (await proxied.end(rollout)).phase == "promoted"


async def test_a_management_api_that_stays_silent_rolls_back_and_is_named(proxied: Service) -> None:
    rollout = await start_canary(proxied)
    proxied.torchserve.behavior.delay = 2.0
    final = await proxied.end(rollout)
    assert final.phase == "rolled_back"
    assert final.detail == (
        "brightness 2.0.0: TorchServe did not respond for 0.5 s: TorchServe's management API did not answer GET "
        "/models/brightness/2.0.0 (ReadTimeout)."
    )


async def test_errors_roll_back_at_once_while_the_management_api_is_silent(proxied: Service) -> None:
    rollout = await start_canary(proxied)
    proxied.torchserve.behavior.delay = 2.0
    proxied.observe("2.0.0", 500, count=5)
    started = time.monotonic()
    assert "5 of 5 requests failed" in (await proxied.end(rollout)).detail
    assert time.monotonic() - started < 0.25
    proxied.torchserve.behavior.delay = 0.0


async def test_an_internal_error_rolls_back(proxied: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(rollout_module, "decide", fail)
    final = await proxied.end(await start(proxied))
    assert final.phase == "rolled_back"
    assert final.detail == "internal error of the server: ZeroDivisionError()."
