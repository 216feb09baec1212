"""Routes requests to versions: the proxy's tables and TorchServe's default versions."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from radserve.build.model_store import order
from radserve.host.run_directory import RunDirectory
from radserve.proxy import traffic_split
from radserve.proxy.traffic_split import Routing
from radserve.schema.deployment import DeployedModel, DeployedVersion, Deployment
from radserve.torchserve.registry import ModelRegistry, ModelVersion, Pair
from radserve.versions.stored_state import RolloutRecord, main_version


class Routes:
    """The proxy's tables and TorchServe's default versions; a closed version gets no requests that name it."""

    def __init__(self, registry: ModelRegistry, run_directory: RunDirectory) -> None:
        self._registry = registry
        self._run_directory = run_directory
        self._defaults: dict[str, str] = {}
        self._closed: set[Pair] = set()

    def write(self, deployment: Deployment, rollouts: Mapping[str, RolloutRecord]) -> None:
        """Write the proxy's tables; OSError if that fails."""
        # After a restart, the candidate of a rollout gets traffic only once it is registered and verified again.
        active = {
            name: rollout
            for name, rollout in rollouts.items()
            if self._registry.get(name, rollout.plan.version) is not None
            and (name, rollout.plan.version) not in self._closed
        }
        tables = routing(deployment, active, self._closed)
        tables = replace(tables, registered=frozenset(item.pair for item in self._registry))
        try:
            traffic_split.write(tables, self._run_directory)
        except OSError:
            # Not even a full disk keeps requests on a version that should not get them.
            traffic_split.clear(self._run_directory)
            raise

    async def set_defaults(self, deployment: Deployment) -> None:
        """Make the main version of each model TorchServe's default, if it is registered and not known to be it."""
        for name, model in deployment.models.items():
            main = main_version(model.versions)
            model_version = self._registry.get(name, main)
            if model_version is not None and self._defaults.get(name) != main:
                await self._registry.make_default(model_version)
                self._defaults[name] = main

    def forget_default(self, pair: Pair) -> None:
        """Forget that an unregistered version was TorchServe's default."""
        if self._defaults.get(pair[0]) == pair[1]:
            del self._defaults[pair[0]]

    def close(self, pair: Pair) -> None:
        """Reject requests that name a version, from the next `write`."""
        self._closed.add(pair)

    def reopen(self, pair: Pair) -> None:
        """Accept requests that name a version again, from the next `write`."""
        self._closed.discard(pair)


def initial_deployment(model_versions: Iterable[ModelVersion]) -> Deployment:
    """Return the deployment that the options started: the newest version of a model, the last one, has all requests."""
    models: dict[str, dict[str, DeployedVersion]] = {}
    for item in model_versions:
        versions = models.setdefault(item.entry.name, {})
        for key, served in versions.items():
            versions[key] = served.model_copy(update={"share": 0.0})
        versions[item.entry.version] = DeployedVersion(share=100.0, workers=item.workers)
    return Deployment(models={name: DeployedModel(versions=versions) for name, versions in models.items()})


def routing(deployment: Deployment, rollouts: Mapping[str, RolloutRecord], closed: Collection[Pair]) -> Routing:
    """Return the proxy's tables for a state."""
    shares: dict[str, Mapping[str, float]] = {}
    for name, model in deployment.models.items():
        # The newest version first: it keeps its clients when its share grows.
        newest_first = sorted(model.versions, key=order, reverse=True)
        split = {
            version: model.versions[version].share for version in newest_first if model.versions[version].share > 0
        }
        if split:
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
