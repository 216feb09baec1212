"""What is served, as clients read it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx

from radserve.errors import NotServedError
from radserve.torchserve.registry import ModelRegistry, ModelVersion, Pair
from radserve.versions import torchserve_metrics
from radserve.versions.rollout_manager import Rollouts
from radserve.versions.storage import main_version
from radserve.versions.torchserve_metrics import Figures
from radserve.versions.version_manager import VersionManager

Counted = Mapping[Pair, Figures]


class Views:
    """Tells of the versions of one server.

    Parameters
    ----------
    metrics_url
        Where TorchServe tells what it counted.
    """

    def __init__(self, changes: VersionManager, rollouts: Rollouts, fleet: ModelRegistry, metrics_url: str) -> None:
        self._changes = changes
        self._rollouts = rollouts
        self._fleet = fleet
        self._metrics_url = metrics_url

    async def all(self) -> dict[str, Any]:
        """Tell of every model."""
        counted = await self._counted()
        names = sorted({member.entry.name for member in self._fleet})
        return {"front": self._changes.ledger.fronted, "models": [self._model(name, counted) for name in names]}

    async def model(self, name: str) -> dict[str, Any]:
        """Tell of one model.

        Raises
        ------
        NotServed
            If there is none of that name.
        """
        return self._model(name, await self._counted())

    async def version(self, member: ModelVersion) -> dict[str, Any]:
        """Tell of one version."""
        return self._version(member, await self._counted())

    def _model(self, name: str, counted: Counted) -> dict[str, Any]:
        members = self._fleet.of(name)
        if not members:
            known = ", ".join(sorted(self._changes.ledger.deployment.models)) or "none"
            raise NotServedError(f"{name} is not served; models are: {known}.")
        run = self._rollouts.find(name)
        return {
            "name": name,
            "versions": [self._version(member, counted) for member in members],
            "previous": self._changes.ledger.state.previous.get(name),
            "rollout": run.document() if run else None,
        }

    def _version(self, member: ModelVersion, counted: Counted) -> dict[str, Any]:
        found = counted.get(member.pair, Figures())
        p50, p95 = found.quantile(0.5), found.quantile(0.95)
        model = self._changes.ledger.deployment.models.get(member.entry.name)
        return {
            "version": member.entry.version,
            "sha256": member.entry.sha256,
            "size": member.entry.size,
            "state": self._state(member),
            "default": model is not None and main_version(model.versions) == member.entry.version,
            "share": self.share(*member.pair),
            "workers": {"wanted": member.workers, "ready": member.ready},
            "registered": member.registered.isoformat(),
            "age_seconds": (datetime.now(UTC) - member.registered).total_seconds(),
            "requests": round(found.requests),
            "errors": round(found.errors),
            "refusals": round(found.refusals),
            "latency": None if p50 is None or p95 is None else {"p50": p50, "p95": p95},
        }

    def _state(self, member: ModelVersion) -> str:
        if self._changes.leaving(member.pair):
            return "leaving"
        if member.ready == 0:
            return "starting"
        if member.ready < member.workers:
            return "degraded"
        return "ready" if self._changes.ledger.deployment.find(*member.pair) else "candidate"

    def open(self, member: ModelVersion) -> bool:
        """Whether a version is there for requests: declared, or given a share by a rollout."""
        declared = self._changes.ledger.deployment.find(*member.pair) is not None
        return (declared and self._state(member) in ("ready", "degraded")) or self.share(*member.pair) > 0

    def share(self, name: str, version: str) -> float:
        """Return the percent of a model's requests that a version gets at present."""
        run = self._rollouts.find(name)
        if run is not None and not run.done and version in (run.version, run.before):
            return run.share if version == run.version else 100.0 - run.share
        found = self._changes.ledger.deployment.find(name, version)
        return found.share if found else 0.0

    async def _counted(self) -> Counted:
        try:
            await self._fleet.refresh()
            async with httpx.AsyncClient(timeout=5.0) as client:
                return torchserve_metrics.read((await client.get(self._metrics_url)).text)
        except httpx.HTTPError:
            return {}  # not ready, or stopping: what is served can be told all the same
