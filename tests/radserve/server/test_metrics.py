"""The supervisor's own metrics, over HTTP and without a TorchServe."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from prometheus_client import REGISTRY, Metric
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.routing import Route

from radserve.auth.endpoint import AUTH
from radserve.build.model_store import Entry
from radserve.server.metrics import endpoint
from radserve.server.supervisor import State
from radserve.torchserve.registry import WorkerStatus
from tests.authority import Authority

SHA = "ab" * 32
ENTRY = Entry(name="model", version="1.2.0", file="model-1.2.0.mar", sha256=SHA, size=1, inputs=SHA)


@dataclass
class Told:
    """What a supervisor would say."""

    state: State = State.READY
    crews: Sequence[WorkerStatus] = (WorkerStatus(ENTRY, 2, 1, 0.05),)
    certificate: Path | None = None


def scrape(told: Told) -> dict[str, Metric]:
    app = Starlette(routes=[Route("/metrics", endpoint(lambda: told))])

    async def get() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://supervisor") as client:
            return await client.get("/metrics")

    response = asyncio.run(get())
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {family.name: family for family in text_string_to_metric_families(response.text)}


def values(family: Metric) -> dict[str, float]:
    """Return the samples by their labels' values."""
    return {" ".join(sample.labels.values()): sample.value for sample in family.samples}


def test_states_readiness_and_workers_are_told() -> None:
    found = scrape(Told())
    assert values(found["radserve_ready"]) == {"": 1}
    assert values(found["radserve_state"]) == {"starting": 0, "ready": 1, "degraded": 0, "draining": 0}
    assert values(found["radserve_workers_wanted"]) == {"model 1.2.0": 2}
    assert values(found["radserve_workers_ready"]) == {"model 1.2.0": 1}
    assert values(found["radserve_archive_info"]) == {f"model 1.2.0 {SHA}": 1}
    assert values(found["radserve_share_ratio"]) == {"model 1.2.0": 0.05}
    assert abs(values(found["radserve_start_time_seconds"])[""] - time.time()) < 60


@pytest.mark.parametrize("state", [State.STARTING, State.DEGRADED, State.DRAINING])
def test_only_a_ready_server_is_ready(state: State) -> None:
    found = scrape(Told(state))
    assert values(found["radserve_ready"]) == {"": 0}
    assert values(found["radserve_state"])[state.value] == 1


@pytest.mark.parametrize("days", [30, -1])
def test_a_certificate_is_told_by_when_it_expires_or_did(authority: Authority, days: int) -> None:
    assert "radserve_certificate_not_after_seconds" not in scrape(Told())
    pair = authority.issue("metrics", days)
    (expires,) = values(scrape(Told(certificate=pair.certificate))["radserve_certificate_not_after_seconds"]).values()
    assert expires == pytest.approx(time.time() + days * 86400, abs=90_000)


@pytest.mark.parametrize("content", [None, b"", b"not a certificate"])
def test_a_certificate_that_cannot_be_read_is_told_as_expired(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "certificate.pem"
    if content is not None:
        path.write_bytes(content)
    found = scrape(Told(certificate=path))
    assert values(found["radserve_certificate_not_after_seconds"]) == {"": 0}
    assert "radserve_ready" in found


def test_decisions_on_keys_are_counted_by_outcome() -> None:
    before = values(scrape(Told())["radserve_auth_decisions"])
    AUTH.labels(outcome="allowed").inc()
    after = values(scrape(Told())["radserve_auth_decisions"])
    assert after["allowed"] - before.get("allowed", 0) == 1


def test_nothing_is_in_the_global_registry_and_two_servers_stand_side_by_side() -> None:
    assert values(scrape(Told(State.READY))["radserve_ready"]) == {"": 1}
    assert values(scrape(Told(State.DRAINING))["radserve_ready"]) == {"": 0}
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("radserve")]
