"""Prometheus metrics of the supervisor; workers' metrics come from TorchServe (handlers/metrics.py)."""

import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from radserve.auth.endpoint import AUTH
from radserve.host import background
from radserve.proxy.access_events import CODES, TrafficWindow
from radserve.proxy.nginx import RESTARTS
from radserve.server.status import ServerStatus, State
from radserve.torchserve.registry import ModelVersion
from radserve.versions.audit_log import ENTRIES, HEAD, INTACT
from radserve.versions.deployment_state import FAILURES, PENDING
from radserve.versions.rollout import ROLLOUTS

_MODEL: Final = ("model_name", "model_version")


class MetricsEndpoint(Collector):
    """ASGI application of /metrics, with its own registry, so that several servers can run in one process."""

    def __init__(
        self,
        status: ServerStatus,
        versions: Iterable[ModelVersion],
        share: Callable[[str, str], float],  # percentage of the requests that a version of a model receives
        traffic: TrafficWindow,
        certificate: Path,  # that the proxy serves; the file is missing if no TLS ends here
    ) -> None:
        self._status = status
        self._versions = versions
        self._share = share
        self._traffic = traffic
        self._certificate = certificate
        self._started = time.time()
        self._registry = CollectorRegistry()
        versions_metrics = (ROLLOUTS, FAILURES, PENDING, ENTRIES, INTACT, HEAD)
        for collector in (self, AUTH, background.FAILURES, RESTARTS, *versions_metrics):
            self._registry.register(collector)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond with the current values."""
        response = Response(generate_latest(self._registry), headers={"content-type": CONTENT_TYPE_LATEST})
        await response(scope, receive, send)

    def collect(self) -> Iterable[Metric]:
        """Read the current values."""
        state = self._status.state
        yield GaugeMetricFamily("radserve_ready", "1 while every model answers.", float(state.answers))
        states = GaugeMetricFamily("radserve_state", "1 for the current state of the server.", labels=["state"])
        for item in State:
            states.add_metric([item.value], float(item is state))
        yield states
        yield GaugeMetricFamily("radserve_start_time_seconds", "Start time of the supervisor.", self._started)
        yield InfoMetricFamily("radserve_build", "Release of the server.", {"version": version("radserve")})
        yield from self._version_metrics()
        if self._certificate.exists():
            help_text = "Expiry of the proxy's certificate; 0 if it cannot be read."
            yield GaugeMetricFamily("radserve_certificate_not_after_seconds", help_text, _not_after(self._certificate))

    def _version_metrics(self) -> Iterable[Metric]:
        wanted = GaugeMetricFamily("radserve_workers_wanted", "Configured workers.", labels=_MODEL)
        ready = GaugeMetricFamily("radserve_workers_ready", "Ready workers.", labels=_MODEL)
        archives = GaugeMetricFamily("radserve_archive_info", "Served archives.", labels=[*_MODEL, "sha256"])
        shares = GaugeMetricFamily("radserve_share_ratio", "Share of the model's requests.", labels=_MODEL)
        requests = CounterMetricFamily("radserve_proxy_requests", "Seen by the proxy.", labels=[*_MODEL, "code"])
        failures = GaugeMetricFamily("radserve_failures_in_a_row", "Responses with 5xx to clients.", labels=_MODEL)
        for item in self._versions:
            wanted.add_metric(item.pair, item.workers)
            ready.add_metric(item.pair, item.ready)
            archives.add_metric([*item.pair, item.entry.sha256], 1)
            shares.add_metric(item.pair, self._share(*item.pair) / 100)
            failures.add_metric(item.pair, self._traffic.failures_in_a_row(*item.pair))
            total = self._traffic.total(*item.pair)
            for code in CODES:
                requests.add_metric([*item.pair, code], total.codes[code])
        return wanted, ready, archives, shares, requests, failures


def _not_after(path: Path) -> float:
    """Return the expiry of a certificate in seconds since 1970; 0 if unreadable, so that the expiry alert fires."""
    from cryptography.x509 import load_pem_x509_certificate

    try:
        return load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc.timestamp()
    except (OSError, ValueError):
        return 0.0
