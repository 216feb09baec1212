"""What the front is told of the versions: whom requests go to, which are copied, and which nobody may ask."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from radserve.build.model_store import order
from radserve.host.run_directory import RunDirectory, proxy_running
from radserve.proxy import traffic_split
from radserve.proxy.traffic_split import Routing
from radserve.torchserve.registry import Pair
from radserve.versions.deployment_spec import Deployment
from radserve.versions.storage import Rollout


class Routes:
    """Writes the front's tables; a front that is started later finds them."""

    def __init__(self, runtime: RunDirectory) -> None:
        self._runtime = runtime
        self._closed: set[Pair] = set()

    @property
    def fronted(self) -> bool:
        """Whether a front reads them."""
        return proxy_running(self._runtime)

    def close(self, pair: Pair) -> None:
        """Let nobody ask a version by its path, from the next `follow` on."""
        self._closed.add(pair)

    def reopen(self, pair: Pair) -> None:
        """Let a version be asked again."""
        self._closed.discard(pair)

    def follow(self, deployment: Deployment, rollouts: Mapping[str, Rollout]) -> None:
        """Have requests go where the state says, but none to a closed version."""
        shown = {name: item for name, item in rollouts.items() if (name, item.plan.version) not in self._closed}
        traffic_split.write(tables(deployment, shown, self._closed), self._runtime)


def tables(deployment: Deployment, rollouts: Mapping[str, Rollout], closed: Collection[Pair]) -> Routing:
    """Derive the front's tables from the state.

    Models whose requests all go to one version are not in them: TorchServe's default version answers those.
    """
    shares: dict[str, Mapping[str, float]] = {}
    for name, model in deployment.models.items():
        # The newest first: its clients stay with it when its share grows.
        newest = sorted(model.versions, key=order, reverse=True)
        split = {version: model.versions[version].share for version in newest if model.versions[version].share > 0}
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
