"""Versions that are open to requests: catalog, cards, samples and worker status."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from radserve.build import catalog
from radserve.torchserve.registry import ModelRegistry, ModelVersion, WorkerStatus
from radserve.versions.views import Views


class ServedModels:
    """Read access to the versions of one server.

    Parameters
    ----------
    store
        Model store with the archives.
    """

    def __init__(self, registry: ModelRegistry, views: Views, store: Path) -> None:
        self._registry = registry
        self._views = views
        self._store = store

    def catalog(self) -> dict[str, Any]:
        """Return the catalog of the versions that are open to requests; candidates under test are not."""
        return catalog.catalog(
            (
                version.entry.name,
                catalog.version(
                    version.entry, version.model.recipe, self._archive(version), self._views.share(*version.pair)
                ),
            )
            for version in self._registry
            if self._views.is_open(version)
        )

    def card(self, name: str, version: str) -> bytes | None:
        """Return the model card of an open version."""
        model = self._open(name, version)
        return None if model is None else catalog.card(self._archive(model))

    def sample(self, name: str, version: str) -> bytes | None:
        """Return the sample image of an open version."""
        model = self._open(name, version)
        return None if model is None else model.model.sample

    def worker_statuses(self) -> Sequence[WorkerStatus]:
        """Return the workers of each version, as last observed."""
        return [
            WorkerStatus(version.entry, version.workers, version.ready, self._views.share(*version.pair) / 100)
            for version in self._registry
        ]

    def _open(self, name: str, version: str) -> ModelVersion | None:
        model = self._registry.get(name, version)
        return model if model is not None and self._views.is_open(model) else None

    def _archive(self, version: ModelVersion) -> Path:
        return self._store / version.entry.file
