"""Represents models and versions as documents of the control API (`radserve.schema.control`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx

from radserve.schema.control import ModelStatus, QuarantinedVersion, ServerStatus, VersionStatus, WorkerCount
from radserve.schema.rollout import Latency
from radserve.torchserve.connection import connect
from radserve.torchserve.registry import ModelVersion, Pair
from radserve.versions import torchserve_metrics
from radserve.versions.rollout_manager import RolloutManager
from radserve.versions.stored_state import QuarantineEntry, main_version
from radserve.versions.torchserve_metrics import VersionMetrics
from radserve.versions.version_manager import VersionManager, unknown_model

_Metrics = Mapping[Pair, VersionMetrics]


@dataclass
class Views:
    """Reads the versions of one server; `metrics` is the socket of TorchServe's metrics."""

    version_manager: VersionManager
    rollouts: RolloutManager
    metrics: Path

    async def server(self) -> ServerStatus:
        """Represent all models."""
        metrics = await self._metrics()
        names = sorted({model_version.entry.name for model_version in self.version_manager.registry})
        quarantined = await self.version_manager.quarantine()
        models = tuple(self._model(name, metrics, quarantined) for name in names)
        return ServerStatus(front=self.version_manager.deployment_state.has_proxy, models=models)

    async def model(self, name: str) -> ModelStatus:
        """Represent one model; raise NotServedError if it is not served."""
        return self._model(name, await self._metrics(), await self.version_manager.quarantine())

    async def version(self, model_version: ModelVersion) -> VersionStatus:
        """Represent one version."""
        return self._version(model_version, await self._metrics())

    def _model(self, name: str, metrics: _Metrics, quarantined: Mapping[Pair, QuarantineEntry]) -> ModelStatus:
        versions = self.version_manager.registry.of(name)
        if not versions:
            raise unknown_model(name, self.version_manager.deployment_state.deployment.models)
        rollout = self.rollouts.find(name)
        return ModelStatus(
            name=name,
            versions=tuple(self._version(model_version, metrics) for model_version in versions),
            previous=self.version_manager.deployment_state.state.previous.get(name),
            rollout=rollout.status() if rollout else None,
            quarantined=tuple(
                QuarantinedVersion(version=entry.version, sha256=entry.sha256, reason=entry.reason)
                for entry in quarantined.values()
                if entry.name == name
            ),
        )

    def _version(self, model_version: ModelVersion, metrics: _Metrics) -> VersionStatus:
        entry = model_version.entry
        counts = metrics.get(model_version.pair, VersionMetrics())
        at_proxy = self.rollouts.traffic.total(*model_version.pair)
        p50, p95 = counts.quantile(0.5), counts.quantile(0.95)
        model = self.version_manager.deployment_state.deployment.models.get(entry.name)
        return VersionStatus(
            version=entry.version,
            sha256=entry.sha256,
            size=entry.size,
            state=self._state(model_version),
            default=model is not None and main_version(model.versions) == entry.version,
            share=self.share(*model_version.pair),
            workers=WorkerCount(wanted=model_version.workers, ready=model_version.ready),
            registered=model_version.registered,
            age_seconds=(datetime.now(UTC) - model_version.registered).total_seconds(),
            # Workers do not see requests that TorchServe answers; the proxy may lose an event when it is busy.
            requests=max(round(counts.requests), at_proxy.requests),
            errors=max(round(counts.errors), at_proxy.errors),
            rejections=max(round(counts.rejections), at_proxy.rejections),
            latency=None if p50 is None else Latency(p50=p50, p95=p95),
        )

    def _state(self, model_version: ModelVersion) -> str:
        if model_version.pair in self.version_manager.unregistration:
            return "leaving"
        if model_version.ready == 0:
            return "starting"
        if model_version.ready < model_version.workers:
            return "degraded"
        declared = self.version_manager.deployment_state.deployment.find(*model_version.pair)
        return "ready" if declared else "candidate"

    def is_open(self, model_version: ModelVersion) -> bool:
        """Whether clients can use a version: it is declared, or a rollout gives it a share."""
        declared = self.version_manager.deployment_state.deployment.find(*model_version.pair) is not None
        return (declared and self._state(model_version) in ("ready", "degraded")) or self.share(*model_version.pair) > 0

    def share(self, name: str, version: str) -> float:
        """Return the percentage of a model's requests that a version receives at present."""
        rollout = self.rollouts.find(name)
        if rollout is not None and not rollout.done and version in (rollout.version, rollout.stable):
            return rollout.share if version == rollout.version else 100.0 - rollout.share
        served = self.version_manager.deployment_state.deployment.find(name, version)
        return served.share if served else 0.0

    async def _metrics(self) -> _Metrics:
        """Read TorchServe's metrics; without them, while TorchServe starts or stops, the rest is still known."""
        try:
            await self.version_manager.registry.refresh()
            async with connect(self.metrics, timeout=5.0) as client:
                return torchserve_metrics.parse((await client.get("/metrics")).text)
        except httpx.HTTPError:
            return {}
