"""What the front is told, derived from the state."""

from __future__ import annotations

from radserve.proxy.traffic_split import Routing
from radserve.schema.rollout import RolloutSpec
from radserve.versions.routes import tables
from radserve.versions.storage import Rollout
from tests.radserve.versions.test_storage import deployment


def rollout(step: int | None, **plan: object) -> Rollout:
    made = RolloutSpec.model_validate({"version": "2.0.0", "steps": [5, 100]} | plan)
    return Rollout(plan=made, before="1.0.0", actor="user test", started="now", step=step)


ONE = deployment(m={"1.0.0": 100})


def test_a_model_with_one_version_has_no_table() -> None:
    assert tables(deployment(m={"1.0.0": 100, "0.9.0": 0}), {}, ()) == Routing()


def test_a_declared_split_begins_with_the_newest_so_that_it_keeps_its_clients_when_it_grows() -> None:
    found = tables(deployment(m={"1.9.0": 90, "1.10.0": 10}), {}, ())
    assert list(found.shares["m"].items()) == [("1.10.0", 10), ("1.9.0", 90)]


def test_a_rollout_that_has_no_step_yet_gets_nothing() -> None:
    assert tables(ONE, {"m": rollout(None)}, ()) == Routing()


def test_a_rollout_gets_the_share_of_its_step() -> None:
    assert list(tables(ONE, {"m": rollout(0)}, ()).shares["m"].items()) == [("2.0.0", 5), ("1.0.0", 95)]
    assert tables(ONE, {"m": rollout(1)}, ()).shares["m"] == {"2.0.0": 100, "1.0.0": 0}


def test_a_shadow_gets_copies_and_no_requests() -> None:
    found = tables(ONE, {"m": rollout(0, shadow=30)}, ())
    assert found.shares == {"m": {"1.0.0": 100}}
    assert found.shadow == {"m": 30}


def test_what_is_closed_is_told() -> None:
    assert tables(ONE, {}, {("m", "2.0.0")}).closed == {("m", "2.0.0")}
