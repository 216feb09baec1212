"""Tests of radserve.server.metrics."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from prometheus_client import REGISTRY, Metric
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.routing import Route

from radserve.auth.endpoint import AUTH
from radserve.build.model_store import Entry
from radserve.proxy.access_events import AccessEvent, TrafficWindow
from radserve.server.metrics import MetricsEndpoint
from radserve.server.status import ServerStatus, State
from radserve.torchserve.registry import ModelVersion
from radserve.torchserve.verified_models import VerifiedModel
from tests.authority import Authority

SHA = "ab" * 32
ENTRY = Entry(name="model", version="1.2.0", file="model-1.2.0.mar", sha256=SHA, size=1, inputs=SHA)
NO_CERTIFICATE = Path("/nonexistent/certificate.pem")


def scrape(state: State = State.READY, certificate: Path = NO_CERTIFICATE) -> dict[str, Metric]:
    version = ModelVersion(VerifiedModel(ENTRY, None, b"", {}), 2, datetime.now(UTC), ready=1)  # type: ignore[arg-type]
    now = time.monotonic()
    traffic = TrafficWindow()
    for code in (200, 302, 415, 415, 499, 499, 499, 503):
        traffic.add(AccessEvent("model", "1.2.0", pinned=False, status=code, seconds=None), now - 6)
    for age in (4, 3, 2, 1):
        traffic.add(AccessEvent("model", "1.2.0", pinned=False, status=500, seconds=0.1), now - age)
    endpoint = MetricsEndpoint(ServerStatus(state), [version], lambda _name, _version: 5.0, traffic, certificate)
    app = Starlette(routes=[Route("/metrics", endpoint)])

    async def get() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://supervisor") as client:
            return await client.get("/metrics")

    response = asyncio.run(get())
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {family.name: family for family in text_string_to_metric_families(response.text)}


def values(family: Metric) -> dict[str, float]:
    """Return the samples by their labels' values."""
    return {" ".join(sample.labels.values()): sample.value for sample in family.samples}


def test_states_readiness_and_workers_are_exposed() -> None:
    metrics = scrape()
    assert values(metrics["radserve_ready"]) == {"": 1}
    assert values(metrics["radserve_state"]) == {
        "starting": 0,
        "ready": 1,
        "degraded": 0,
        "unavailable": 0,
        "draining": 0,
    }
    assert values(metrics["radserve_workers_wanted"]) == {"model 1.2.0": 2}
    assert values(metrics["radserve_workers_ready"]) == {"model 1.2.0": 1}
    assert values(metrics["radserve_archive_info"]) == {f"model 1.2.0 {SHA}": 1}
    assert values(metrics["radserve_proxy_requests"]) == {
        "2xx model 1.2.0": 1,
        "3xx model 1.2.0": 1,
        "4xx model 1.2.0": 2,
        "499 model 1.2.0": 3,
        "5xx model 1.2.0": 5,
    }
    assert values(metrics["radserve_failures_in_a_row"]) == {"model 1.2.0": 5}
    assert values(metrics["radserve_share_ratio"]) == {"model 1.2.0": 0.05}
    assert abs(values(metrics["radserve_start_time_seconds"])[""] - time.time()) < 60


@pytest.mark.parametrize("state", list(State))
def test_a_server_is_ready_if_every_model_answers(state: State) -> None:
    metrics = scrape(state)
    assert values(metrics["radserve_ready"]) == {"": float(state in (State.READY, State.DEGRADED))}
    assert values(metrics["radserve_state"])[state.value] == 1


@pytest.mark.parametrize("days", [30, -1])
def test_the_expiry_of_a_certificate_is_exposed(authority: Authority, days: int) -> None:
    assert "radserve_certificate_not_after_seconds" not in scrape()
    pair = authority.issue("metrics", days)
    metrics = scrape(certificate=pair.certificate)
    (expires,) = values(metrics["radserve_certificate_not_after_seconds"]).values()
    assert expires == pytest.approx(time.time() + days * 86400, abs=90_000)


@pytest.mark.parametrize("content", [None, b"", b"not a certificate"])
def test_an_unreadable_certificate_counts_as_expired(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "certificate.pem"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    metrics = scrape(certificate=path)
    assert values(metrics["radserve_certificate_not_after_seconds"]) == {"": 0}
    assert "radserve_ready" in metrics


def test_decisions_on_keys_are_counted_by_outcome() -> None:
    before = values(scrape()["radserve_auth_decisions"])
    AUTH.labels(outcome="allowed").inc()
    after = values(scrape()["radserve_auth_decisions"])
    assert after["allowed"] - before.get("allowed", 0) == 1


def test_two_servers_do_not_share_a_registry() -> None:
    assert values(scrape(State.READY)["radserve_ready"]) == {"": 1}
    assert values(scrape(State.DRAINING)["radserve_ready"]) == {"": 0}
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("radserve")]
