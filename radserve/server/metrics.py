"""Prometheus metrics of the supervisor; workers' metrics come from TorchServe (handlers/metrics.py)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from radserve.auth.endpoint import AUTH
from radserve.server.status import ServerStatus, State
from radserve.torchserve.registry import WorkerStatus
from radserve.versions.rollout import ROLLOUTS

_MODEL: Final = ("model_name", "model_version")


class MetricsEndpoint:
    """ASGI application of /metrics, with its own registry, so that several servers can run in one process.

    Parameters
    ----------
    workers
        Returns the workers of each served version.
    certificate
        Certificate that the proxy serves; the file is missing if no TLS ends here.
    """

    def __init__(self, status: ServerStatus, workers: Callable[[], Sequence[WorkerStatus]], certificate: Path) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_ServerCollector(status, workers, certificate))
        self._registry.register(AUTH)
        self._registry.register(ROLLOUTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond with the current values."""
        response = Response(generate_latest(self._registry), headers={"content-type": CONTENT_TYPE_LATEST})
        await response(scope, receive, send)


class _ServerCollector(Collector):
    """Reads the current values at every scrape."""

    def __init__(self, status: ServerStatus, workers: Callable[[], Sequence[WorkerStatus]], certificate: Path) -> None:
        self._status = status
        self._workers = workers
        self._certificate = certificate
        self._started = time.time()

    def collect(self) -> Iterable[Metric]:
        state = self._status.state
        yield GaugeMetricFamily("radserve_ready", "1 while requests are answered.", float(state is State.READY))
        states = GaugeMetricFamily("radserve_state", "1 for the current state of the server.", labels=["state"])
        for item in State:
            states.add_metric([item.value], float(item is state))
        yield states
        yield GaugeMetricFamily("radserve_start_time_seconds", "Start time of the supervisor.", self._started)
        yield InfoMetricFamily("radserve_build", "Release of the server.", {"version": version("radserve")})
        yield from _worker_metrics(self._workers())
        if self._certificate.exists():
            help_text = "Expiry of the proxy's certificate; 0 if it cannot be read."
            yield GaugeMetricFamily("radserve_certificate_not_after_seconds", help_text, _not_after(self._certificate))


def _worker_metrics(statuses: Sequence[WorkerStatus]) -> Iterable[Metric]:
    wanted = GaugeMetricFamily("radserve_workers_wanted", "Configured workers.", labels=_MODEL)
    ready = GaugeMetricFamily("radserve_workers_ready", "Ready workers.", labels=_MODEL)
    archives = GaugeMetricFamily("radserve_archive_info", "Served archives.", labels=[*_MODEL, "sha256"])
    shares = GaugeMetricFamily("radserve_share_ratio", "Share of the model's requests.", labels=_MODEL)
    for status in statuses:
        model = [status.entry.name, status.entry.version]
        wanted.add_metric(model, status.wanted)
        ready.add_metric(model, status.ready)
        archives.add_metric([*model, status.entry.sha256], 1)
        shares.add_metric(model, status.share)
    return wanted, ready, archives, shares


def _not_after(path: Path) -> float:
    """Return the expiry of a certificate in seconds since 1970; 0 if unreadable, so that the expiry alert fires."""
    from cryptography.x509 import load_pem_x509_certificate

    try:
        return load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc.timestamp()
    except (OSError, ValueError):
        return 0.0
