"""Derives the proxy's traffic-split tables from the deployment state."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from radserve.build.model_store import order
from radserve.host.run_directory import RunDirectory, proxy_running
from radserve.proxy import traffic_split
from radserve.proxy.traffic_split import Routing
from radserve.schema.deployment import Deployment
from radserve.torchserve.registry import Pair
from radserve.versions.storage import RolloutRecord


class TrafficRouter:
    """Writes the proxy's tables; a proxy that starts later reads them, too."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self._closed: set[Pair] = set()

    @property
    def has_proxy(self) -> bool:
        """Whether a proxy reads the tables."""
        return proxy_running(self._directory)

    def close(self, pair: Pair) -> None:
        """Reject requests that name this version, from the next `write` on."""
        self._closed.add(pair)

    def reopen(self, pair: Pair) -> None:
        """Accept requests that name this version, from the next `write` on."""
        self._closed.discard(pair)

    def write(self, deployment: Deployment, rollouts: Mapping[str, RolloutRecord]) -> None:
        """Route requests as the state declares, but none to a closed version."""
        open_rollouts = {
            name: rollout for name, rollout in rollouts.items() if (name, rollout.plan.version) not in self._closed
        }
        traffic_split.write(routing(deployment, open_rollouts, self._closed), self._directory)


def routing(deployment: Deployment, rollouts: Mapping[str, RolloutRecord], closed: Collection[Pair]) -> Routing:
    """Return the proxy's tables for a state.

    A model whose requests all go to one version needs no table: TorchServe's default version answers them.
    """
    shares: dict[str, Mapping[str, float]] = {}
    for name, model in deployment.models.items():
        # The newest version first: it keeps its clients when its share grows.
        newest_first = sorted(model.versions, key=order, reverse=True)
        split = {
            version: model.versions[version].share for version in newest_first if model.versions[version].share > 0
        }
        if len(split) > 1:
            shares[name] = split
    shadow: dict[str, float] = {}
    for name, rollout in rollouts.items():
        if rollout.step is None:
            continue
        if rollout.plan.shadow is not None:
            shares[name], shadow[name] = {rollout.before: 100.0}, rollout.plan.shadow
        else:
            share = rollout.plan.steps[rollout.step]
            shares[name] = {rollout.plan.version: share, rollout.before: 100.0 - share}
    return Routing(shares, shadow, frozenset(closed))
