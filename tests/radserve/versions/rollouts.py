"""Starts rollouts for tests and reads their outcomes."""

from typing import Any

from radserve.schema.rollout import RolloutSpec
from radserve.versions.rollout import ROLLOUTS, Rollout
from tests.radserve.versions.conftest import ADA, NAME, Service


def spec(**settings: Any) -> RolloutSpec:
    """Return a specification whose steps end as soon as there are five requests."""
    return RolloutSpec.model_validate({"version": "2.0.0", "step_seconds": 0, "min_requests": 5} | settings)


async def start(service: Service, **settings: Any) -> Rollout:
    return await service.rollouts.start(NAME, spec(**settings), ADA)


async def reach(service: Service, rollout: Rollout, share: float) -> None:
    await service.until(lambda: rollout.share == share)


async def start_canary(service: Service, **settings: Any) -> Rollout:
    rollout = await start(service, **settings)
    await service.until(lambda: rollout.share > 0)
    return rollout


def outcomes(outcome: str) -> float:
    return float(ROLLOUTS.labels(model_name=NAME, outcome=outcome)._value.get())
