"""Represents models and versions as documents of the control API."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx

from radserve.torchserve.registry import ModelRegistry, ModelVersion, Pair
from radserve.versions import torchserve_metrics
from radserve.versions.rollout_manager import RolloutManager
from radserve.versions.storage import main_version
from radserve.versions.torchserve_metrics import VersionMetrics
from radserve.versions.version_manager import VersionManager, unknown_model

_Metrics = Mapping[Pair, VersionMetrics]


class Views:
    """Reads the versions of one server.

    Parameters
    ----------
    metrics_url
        URL of TorchServe's metrics.
    """

    def __init__(
        self, version_manager: VersionManager, rollouts: RolloutManager, registry: ModelRegistry, metrics_url: str
    ) -> None:
        self._version_manager = version_manager
        self._deployment_state = version_manager.deployment_state
        self._rollouts = rollouts
        self._registry = registry
        self._metrics_url = metrics_url

    async def overview(self) -> dict[str, Any]:
        """Represent all models."""
        metrics = await self._metrics()
        names = sorted({model_version.entry.name for model_version in self._registry})
        return {"front": self._deployment_state.has_proxy, "models": [self._model(name, metrics) for name in names]}

    async def model(self, name: str) -> dict[str, Any]:
        """Represent one model.

        Raises
        ------
        NotServedError
            If it is not served.
        """
        return self._model(name, await self._metrics())

    async def version(self, model_version: ModelVersion) -> dict[str, Any]:
        """Represent one version."""
        return self._version(model_version, await self._metrics())

    def _model(self, name: str, metrics: _Metrics) -> dict[str, Any]:
        versions = self._registry.of(name)
        if not versions:
            raise unknown_model(name, self._deployment_state.deployment.models)
        rollout = self._rollouts.find(name)
        return {
            "name": name,
            "versions": [self._version(model_version, metrics) for model_version in versions],
            "previous": self._deployment_state.state.previous.get(name),
            "rollout": rollout.document() if rollout else None,
        }

    def _version(self, model_version: ModelVersion, metrics: _Metrics) -> dict[str, Any]:
        entry = model_version.entry
        counts = metrics.get(model_version.pair, VersionMetrics())
        p50, p95 = counts.quantile(0.5), counts.quantile(0.95)
        model = self._deployment_state.deployment.models.get(entry.name)
        return {
            "version": entry.version,
            "sha256": entry.sha256,
            "size": entry.size,
            "state": self._state(model_version),
            "default": model is not None and main_version(model.versions) == entry.version,
            "share": self.share(*model_version.pair),
            "workers": {"wanted": model_version.workers, "ready": model_version.ready},
            "registered": model_version.registered.isoformat(),
            "age_seconds": (datetime.now(UTC) - model_version.registered).total_seconds(),
            "requests": round(counts.requests),
            "errors": round(counts.errors),
            "refusals": round(counts.refusals),
            "latency": None if p50 is None else {"p50": p50, "p95": p95},
        }

    def _state(self, model_version: ModelVersion) -> str:
        if self._version_manager.is_unregistering(model_version.pair):
            return "leaving"
        if model_version.ready == 0:
            return "starting"
        if model_version.ready < model_version.workers:
            return "degraded"
        return "ready" if self._deployment_state.deployment.find(*model_version.pair) else "candidate"

    def is_open(self, model_version: ModelVersion) -> bool:
        """Whether clients can use a version: it is declared, or a rollout gives it a share."""
        declared = self._deployment_state.deployment.find(*model_version.pair) is not None
        return (declared and self._state(model_version) in ("ready", "degraded")) or self.share(*model_version.pair) > 0

    def share(self, name: str, version: str) -> float:
        """Return the percentage of a model's requests that a version receives at present."""
        rollout = self._rollouts.find(name)
        if rollout is not None and not rollout.done and version in (rollout.version, rollout.stable):
            return rollout.share if version == rollout.version else 100.0 - rollout.share
        served = self._deployment_state.deployment.find(name, version)
        return served.share if served else 0.0

    async def _metrics(self) -> _Metrics:
        """Read TorchServe's metrics; without them, while TorchServe starts or stops, the rest is still known."""
        try:
            await self._registry.refresh()
            async with httpx.AsyncClient(timeout=5.0) as client:
                return torchserve_metrics.parse((await client.get(self._metrics_url)).text)
        except httpx.HTTPError:
            return {}
