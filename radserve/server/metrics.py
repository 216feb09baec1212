"""What the supervisor tells Prometheus; what workers count comes from TorchServe (handlers/metrics.py)."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Final, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from radserve.auth.endpoint import AUTH
from radserve.torchserve.registry import WorkerStatus
from radserve.versions.rollout import ROLLOUTS

_MODEL: Final = ("model_name", "model_version")


class Subject(Protocol):
    """What is told about: the supervisor."""

    @property
    def state(self) -> Enum:
        """Where the server is in its life."""

    @property
    def crews(self) -> Sequence[WorkerStatus]:
        """The workers of each archive that is served."""

    @property
    def certificate(self) -> Path | None:
        """The certificate of the front, where TLS ends here."""


def endpoint(subject: Callable[[], Subject]) -> Callable[[Request], Awaitable[Response]]:
    """Make the handler of /metrics; each has a registry of its own, so that two of them know nothing of each other."""
    registry = CollectorRegistry()
    registry.register(_Told(subject, time.time()))
    registry.register(AUTH)
    registry.register(ROLLOUTS)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})

    return metrics


class _Told(Collector):
    """Asks the subject at every scrape, so that nothing has to be kept up to date."""

    def __init__(self, subject: Callable[[], Subject], started: float) -> None:
        self._subject = subject
        self._started = started

    def collect(self) -> Iterable[Metric]:
        subject = self._subject()
        state = subject.state
        yield GaugeMetricFamily("radserve_ready", "1 while requests are answered.", float(state.value == "ready"))
        yield _states(state)
        yield GaugeMetricFamily("radserve_start_time_seconds", "When the supervisor started.", self._started)
        yield InfoMetricFamily("radserve_build", "The release that serves.", {"version": version("radserve")})
        yield from _crews(subject.crews)
        if subject.certificate is not None:
            told = "When the front's certificate expires; 0 if it cannot be read."
            yield GaugeMetricFamily("radserve_certificate_not_after_seconds", told, _not_after(subject.certificate))


def _states(state: Enum) -> Metric:
    family = GaugeMetricFamily("radserve_state", "1 for the state that the server is in.", labels=["state"])
    for item in type(state):
        family.add_metric([item.value], float(item is state))
    return family


def _crews(crews: Sequence[WorkerStatus]) -> Iterable[Metric]:
    wanted = GaugeMetricFamily("radserve_workers_wanted", "Workers that there should be.", labels=_MODEL)
    ready = GaugeMetricFamily("radserve_workers_ready", "Workers that can answer.", labels=_MODEL)
    archives = GaugeMetricFamily("radserve_archive_info", "The archives served.", labels=[*_MODEL, "sha256"])
    shares = GaugeMetricFamily("radserve_share_ratio", "Part of its model's requests that it gets.", labels=_MODEL)
    for crew in crews:
        model = [crew.entry.name, crew.entry.version]
        wanted.add_metric(model, crew.wanted)
        ready.add_metric(model, crew.ready)
        archives.add_metric([*model, crew.entry.sha256], 1)
        shares.add_metric(model, crew.share)
    return wanted, ready, archives, shares


def _not_after(path: Path) -> float:
    """Read when a certificate expires, in seconds since 1970.

    0 where it cannot be read: the alert on expiry then fires, as it should.
    """
    from cryptography.x509 import load_pem_x509_certificate

    try:
        return load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc.timestamp()
    except (OSError, ValueError):
        return 0.0
