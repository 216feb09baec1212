"""Tests of radserve.versions.rollout against a fake TorchServe and simulated traffic."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from radserve.errors import ConflictError
from radserve.host.run_directory import proxy_lock
from radserve.versions import rollout as rollout_module
from radserve.versions.shadow import CopiedRequest
from radserve.versions.stored_state import StateFolder
from tests.radserve.minimal_archive import write_archive
from tests.radserve.versions.conftest import ADA, NAME, Service, assemble
from tests.radserve.versions.rollouts import outcomes, reach, start, start_canary

pytestmark = pytest.mark.anyio

COPY = CopiedRequest(b"image", {}, "id")


async def test_a_version_receives_a_growing_share_and_is_promoted(proxied: Service) -> None:
    before = outcomes("promoted")
    rollout = await start(proxied, steps=[10, 50, 100])
    for share in (10, 50, 100):
        await reach(proxied, rollout, share)
        proxied.observe("2.0.0", count=5)
        proxied.observe("1.0.0", count=5)
    final = await proxied.end(rollout)
    assert (final.phase, final.succeeded, final.share) == ("promoted", True, 100)
    assert final.detail == (
        "Receives all requests. Last step: 100% of requests: 5 requests, 0 errors. 1.0.0 is on standby."
    )
    assert final.candidate is not None
    assert final.candidate.requests == 5
    assert proxied.shares == {"1.0.0": 0, "2.0.0": 100}
    assert proxied.torchserve.defaults == {NAME: "2.0.0"}
    state = proxied.deployment_state.state
    assert (state.previous, state.rollouts) == ({NAME: "1.0.0"}, {})
    assert outcomes("promoted") == before + 1
    details = [detail.removeprefix("brightness 2.0.0: ") for _, detail in proxied.audit]
    assert details == [
        "rollout started; 1.0.0 receives the requests.",
        "receives 10% of the requests.",
        "receives 50% of the requests.",
        "receives 100% of the requests.",
        "promoted; 1.0.0 is on standby.",
    ]


async def test_without_a_proxy_a_verified_version_receives_all_requests_at_once(service: Service) -> None:
    final = await service.end(await start(service))
    assert final.phase == "promoted"
    assert final.detail.startswith("Without a proxy, requests cannot be split")
    assert service.torchserve.defaults == {NAME: "2.0.0"}


@pytest.mark.parametrize("status", [500, 504])
async def test_a_version_with_errors_is_rolled_back_and_unregistered(proxied: Service, status: int) -> None:
    before = outcomes("rolled_back")
    rollout = await start_canary(proxied)
    proxied.observe("2.0.0", status, count=5)
    final = await proxied.end(rollout)
    assert (final.phase, final.succeeded, final.share) == ("rolled_back", False, 0)
    assert "5 of 5 requests failed with 5xx" in final.detail
    assert proxied.shares == {"1.0.0": 100}
    assert proxied.deployment_state.state.rollouts == {}
    assert outcomes("rolled_back") == before + 1
    await proxied.until(lambda: proxied.registered == {"1.0.0"})
    action, detail = proxied.audit[-1]
    assert action == "rollout"
    assert detail.startswith("brightness 2.0.0: rolled back; 1.0.0 receives all requests: ")


async def test_a_version_whose_labels_shift_is_rolled_back(proxied: Service) -> None:
    rollout = await start_canary(proxied, max_shift=0.25, min_requests=1000)
    proxied.observe("1.0.0", count=30, outcome="label:bright:1")
    proxied.observe("2.0.0", count=30, outcome="label:bright:1,label:dark:3")
    final = await proxied.end(rollout)
    assert final.phase == "rolled_back"
    assert "more than 0.25: dark 75% instead of 0%" in final.detail
    assert final.candidate is not None
    assert final.candidate.outcomes == {"label": {"bright": 7.5, "dark": 22.5}}


async def test_a_version_that_loses_a_worker_is_rolled_back(proxied: Service) -> None:
    rollout = await start_canary(proxied)
    proxied.torchserve.behavior.ready = 0
    final = await proxied.end(rollout)
    assert final.phase == "rolled_back"
    assert "0 of 1 workers are ready" in final.detail


async def test_a_step_does_not_end_while_a_worker_is_missing(proxied: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout_module, "_MAX_MISSING_SECONDS", 60.0)
    rollout = await start_canary(proxied, steps=[10, 100])
    proxied.torchserve.behavior.ready = 0
    proxied.observe("2.0.0", count=5)
    await asyncio.sleep(0.3)
    assert rollout.share == 10
    proxied.torchserve.behavior.ready = None
    await proxied.until(lambda: rollout.share == 100)


@pytest.mark.parametrize(
    ("behavior", "reason"),
    [({"prediction": {"label": "dark"}}, "label"), ({"scale_status": 500}, "worker")],
)
async def test_a_version_that_fails_its_checks_receives_no_requests(
    proxied: Service, behavior: dict[str, Any], reason: str
) -> None:
    for key, value in behavior.items():
        setattr(proxied.torchserve.behavior, key, value)
    final = await proxied.end(await start(proxied))
    assert final.phase == "rolled_back"
    assert reason in final.detail
    assert final.candidate is None
    assert proxied.registered == {"1.0.0"}


async def test_a_version_whose_code_does_not_start_receives_no_requests(proxied: Service) -> None:
    write_archive(proxied.store, version="3.0.0", initialize="raise RuntimeError('no such file')")
    final = await proxied.end(await start(proxied, version="3.0.0"))
    assert final.detail == "brightness 3.0.0: does not start: RuntimeError: no such file."
    assert proxied.registered == {"1.0.0"}


async def test_a_standby_version_stays_registered_after_a_rollback(proxied: Service) -> None:
    await proxied.version_manager.register(NAME, "2.0.0", None, ADA)
    rollout = await start_canary(proxied)
    proxied.observe("2.0.0", 500, count=5)
    await proxied.end(rollout)
    assert proxied.shares == {"1.0.0": 100, "2.0.0": 0}
    await asyncio.sleep(0.2)
    assert proxied.registered == {"1.0.0", "2.0.0"}


async def test_a_standby_version_can_be_rolled_out(proxied: Service) -> None:
    await proxied.version_manager.register(NAME, "2.0.0", 2, ADA)
    rollout = await start_canary(proxied, steps=[100])
    proxied.observe("2.0.0", count=5)
    assert (await proxied.end(rollout)).phase == "promoted"
    assert proxied.version_manager.declared_versions(NAME)["2.0.0"].workers == 2


async def test_an_abort_while_the_version_is_registered_unregisters_it(proxied: Service) -> None:
    proxied.torchserve.behavior.prediction_delay = 0.5
    rollout = await start(proxied)
    await proxied.until(lambda: "2.0.0" in proxied.registered)
    assert await rollout.abort(ADA)
    await proxied.until(lambda: proxied.registered == {"1.0.0"})


async def test_an_ending_rollout_cannot_be_aborted(service: Service) -> None:
    service.torchserve.behavior.delay = 0.05
    rollout = await start(service)
    await service.until(lambda: rollout._ending)
    assert not await rollout.abort(ADA)
    assert rollout.status().phase == "promoted"


async def test_an_abort_does_not_interrupt_a_promotion_that_begins_at_the_same_time(proxied: Service) -> None:
    rollout = await start_canary(proxied, steps=[100])
    abort = asyncio.create_task(rollout.abort(ADA))
    asyncio.get_running_loop().call_soon(setattr, rollout, "_ending", True)
    await asyncio.sleep(0.1)
    proxied.observe("2.0.0", count=5)
    assert not await abort
    assert rollout.status().phase == "promoted"
    assert proxied.shares == {"1.0.0": 0, "2.0.0": 100}


async def test_a_promotion_that_torchserve_rejects_is_reverted_and_rolled_back(proxied: Service) -> None:
    rollout = await start_canary(proxied, steps=[100])
    proxied.observe("2.0.0", count=5)
    original = proxied.registry.make_default

    async def fail(*_: object) -> None:
        proxied.registry.make_default = original  # type: ignore[method-assign]
        raise OSError("no space")

    proxied.registry.make_default = fail  # type: ignore[method-assign, assignment]
    final = await proxied.end(rollout)
    assert final.phase == "rolled_back"
    assert "Failed and reverted: no space" in final.detail
    assert proxied.torchserve.defaults == {NAME: "1.0.0"}
    assert proxied.shares == {"1.0.0": 100}


async def test_a_stopped_rollout_is_resumed_at_its_step_by_the_next_server(
    proxied: Service, tmp_path: Path, stack: AsyncExitStack
) -> None:
    rollout = await start_canary(proxied, steps=[10, 50, 100])
    proxied.observe("2.0.0", count=5)
    await reach(proxied, rollout, 50)
    await proxied.rollouts.stop()
    await proxied.version_manager.stop()
    assert not rollout.done
    assert StateFolder(proxied.state_folder).state.rollouts[NAME].step == 1
    # TorchServe starts again without the candidate.
    del proxied.torchserve.models[NAME, "2.0.0"]
    proxied.directory.routing.unlink()
    restarted = assemble(proxied.torchserve, proxied.store, proxied.directory, proxied.state_folder, stack)
    await restarted.registry.refresh()
    await restarted.version_manager.start()
    assert proxied.routed == {"1.0.0"}
    restarted.rollouts.resume()
    resumed = restarted.rollouts.get(NAME)
    assert resumed.share == 0
    await reach(restarted, resumed, 50)
    for share in (50, 100):
        await reach(restarted, resumed, share)
        restarted.observe("2.0.0", count=5)
    assert (await restarted.end(resumed)).phase == "promoted"


async def test_a_shadow_receives_copies_and_ends_on_standby(proxied: Service) -> None:
    rollout = await start(proxied, shadow=50)
    await proxied.until(lambda: rollout.shadow is not None and rollout.status().phase == "shadow")
    assert rollout.shadow is not None
    for _ in range(5):
        rollout.shadow.add(COPY)
    final = await proxied.end(rollout)
    assert (final.phase, final.share, final.step) == ("shadowed", 0, None)
    assert final.shadow is not None
    assert final.shadow.compared == 5
    assert final.detail.endswith("5 of 5 responses agree; now on standby. Traffic is unchanged.")
    assert proxied.shares == {"1.0.0": 100, "2.0.0": 0}


async def test_a_shift_that_cannot_be_compared_ends_the_rollout_without_quarantine(proxied: Service) -> None:
    rollout = await start_canary(proxied, max_shift=0.25)
    proxied.observe("1.0.0", count=20)
    proxied.observe("2.0.0", count=20, outcome="label:normal:1")
    final = await proxied.end(rollout)
    assert final.phase == "rolled_back"
    assert "the shift was not compared: none of the 20 responses of the stable version" in final.detail
    assert proxied.shares == {"1.0.0": 100}
    assert proxied.archive().quarantine is None


async def test_the_last_step_needs_no_comparison(proxied: Service) -> None:
    rollout = await start_canary(proxied, steps=[50, 100], max_shift=0.25)
    for version in ("1.0.0", "2.0.0"):
        proxied.observe(version, count=20, outcome="label:normal:1")
    await reach(proxied, rollout, 100)
    proxied.observe("2.0.0", count=5)
    assert (await proxied.end(rollout)).phase == "promoted"


@pytest.mark.parametrize("plan", [{"shadow": 50}, {"max_shift": 0.25}])
async def test_a_shadow_and_a_limit_of_shift_need_a_proxy(proxied: Service, plan: dict[str, Any]) -> None:
    proxied.torchserve.behavior.prediction_delay = 0.2
    rollout = await start(proxied, **plan)
    proxy_lock(proxied.directory.proxy).unlink()  # the proxy ends
    final = await proxied.end(rollout)
    assert final.phase == "rolled_back"
    assert "only a proxy can split its requests" in final.detail
    with pytest.raises(ConflictError, match="only a proxy can split its requests"):
        await start(proxied, **plan)
