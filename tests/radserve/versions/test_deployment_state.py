"""Tests of radserve.versions.deployment_state against a fake TorchServe."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from radserve.errors import ChangeError
from radserve.proxy.traffic_split import Routing
from radserve.schema.rollout import RolloutSpec
from radserve.torchserve import verified_models
from radserve.torchserve.registry import ModelVersion
from radserve.versions.deployment_state import initial_deployment, routing
from radserve.versions.server_state import RolloutRecord, State, StateFolder
from tests.radserve.versions.conftest import ADA, NAME, Service
from tests.radserve.versions.test_server_state import deployment as declared

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


def test_initially_the_newest_version_of_each_model_has_all_requests(store: Path) -> None:
    models = verified_models.select(store, [f"{NAME}/1.0.0", f"{NAME}/2.0.0"])
    deployment = initial_deployment(ModelVersion(model, 3, datetime.now(UTC)) for model in models)
    assert deployment.model_dump() == {
        "models": {
            NAME: {"versions": {"1.0.0": {"share": 0, "workers": 3}, "2.0.0": {"share": 100, "workers": 3}}},
        }
    }


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


async def test_a_change_that_cannot_be_recorded_is_not_made(two_versions: Service) -> None:
    two_versions.block_audit_log()
    with pytest.raises(ChangeError, match="nothing was changed"):
        await commit(two_versions)
    assert two_versions.torchserve.defaults == {NAME: "1.0.0"}
    assert two_versions.shares == {"1.0.0": 100, "2.0.0": 0}


async def test_a_safety_measure_is_taken_even_if_it_cannot_be_recorded(
    two_versions: Service, caplog: pytest.LogCaptureFixture
) -> None:
    two_versions.block_audit_log()
    await commit(two_versions, act_first=True)
    assert two_versions.torchserve.defaults == {NAME: "2.0.0"}
    assert two_versions.shares == {"1.0.0": 0, "2.0.0": 100}
    assert "In effect, but not recorded" in caplog.text


async def test_a_safety_measure_is_recorded_even_if_torchserve_fails(
    two_versions: Service, caplog: pytest.LogCaptureFixture
) -> None:
    two_versions.torchserve.behavior.status = 500
    await commit(two_versions, act_first=True)
    assert StateFolder(two_versions.state_folder).state.versions(NAME)["2.0.0"].share == 100
    assert two_versions.audit[-1] == ("promote", "brightness 2.0.0: promoted.")
    assert "TorchServe or the proxy was not updated" in caplog.text


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
    service.deployment_state.forget_default((NAME, "1.0.0"))
    service.deployment_state.forget_default((NAME, "1.0.0"))
    with pytest.raises(httpx.HTTPError):
        await service.deployment_state.synchronize()


def rollout(step: int | None, **settings: object) -> RolloutRecord:
    spec = RolloutSpec.model_validate({"version": "2.0.0", "steps": [5, 100]} | settings)
    return RolloutRecord(plan=spec, before="1.0.0", actor="user test", started=datetime.now(UTC), step=step)


ONE = declared(m={"1.0.0": 100})


def test_a_model_whose_requests_go_to_one_version_has_a_table_so_that_the_log_has_the_version() -> None:
    assert routing(declared(m={"1.0.0": 100, "0.9.0": 0}), {}, ()) == Routing({"m": {"1.0.0": 100}})


def test_a_declared_split_begins_with_the_newest_version_so_that_it_keeps_its_clients_when_it_grows() -> None:
    shares = routing(declared(m={"1.9.0": 90, "1.10.0": 10}), {}, ()).shares["m"]
    assert list(shares.items()) == [("1.10.0", 10), ("1.9.0", 90)]


def test_a_rollout_without_a_step_receives_no_requests() -> None:
    assert routing(ONE, {"m": rollout(None)}, ()) == Routing({"m": {"1.0.0": 100}})


def test_a_rollout_receives_the_share_of_its_step() -> None:
    assert list(routing(ONE, {"m": rollout(0)}, ()).shares["m"].items()) == [("2.0.0", 5), ("1.0.0", 95)]
    assert routing(ONE, {"m": rollout(1)}, ()).shares["m"] == {"2.0.0": 100, "1.0.0": 0}


def test_a_shadow_receives_copies_and_no_requests() -> None:
    tables = routing(ONE, {"m": rollout(0, shadow=30)}, ())
    assert tables.shares == {"m": {"1.0.0": 100}}
    assert tables.shadow == {"m": 30}


def test_closed_versions_are_part_of_the_tables() -> None:
    assert routing(ONE, {}, {("m", "2.0.0")}).closed == {("m", "2.0.0")}
