"""Tests of radserve.versions.request_routing."""

from datetime import UTC, datetime
from pathlib import Path

from radserve.proxy.traffic_split import Routing
from radserve.schema.rollout import RolloutSpec
from radserve.torchserve import verified_models
from radserve.torchserve.registry import ModelVersion
from radserve.versions.request_routing import initial_deployment, routing
from radserve.versions.stored_state import RolloutRecord
from tests.radserve.versions.conftest import NAME
from tests.radserve.versions.test_stored_state import deployment as declared


def test_initially_the_newest_version_of_each_model_has_all_requests(store: Path) -> None:
    models = verified_models.select(store, [f"{NAME}/1.0.0", f"{NAME}/2.0.0"])
    deployment = initial_deployment(ModelVersion(model, 3, datetime.now(UTC)) for model in models)
    assert deployment.model_dump() == {
        "models": {
            NAME: {"versions": {"1.0.0": {"share": 0, "workers": 3}, "2.0.0": {"share": 100, "workers": 3}}},
        }
    }


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
