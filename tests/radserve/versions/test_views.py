"""Tests of radserve.versions.views against a fake TorchServe."""

import pytest

from radserve.errors import NotServedError
from radserve.proxy.access_events import AccessEvent
from radserve.schema.rollout import RolloutSpec
from tests.radserve.versions.conftest import ADA, NAME, Service

pytestmark = pytest.mark.anyio

METRICS = """
radserve_requests_total{model_name="brightness",model_version="1.0.0",code="200",Hostname="h",} 8.0
radserve_requests_total{model_name="brightness",model_version="1.0.0",code="415",Hostname="h",} 2.0
radserve_requests_total{model_name="brightness",model_version="1.0.0",code="500",Hostname="h",} 1.0
radserve_stage_seconds_bucket{model_name="brightness",model_version="1.0.0",stage="handle",le="0.1",Hostname="h",} 11.0
radserve_stage_seconds_bucket{model_name="brightness",model_version="1.0.0",stage="handle",le="+Inf",Hostname="h",} 11.0
"""


async def test_a_version_has_its_traffic_workers_and_metrics(service: Service) -> None:
    service.torchserve.behavior.metrics = METRICS
    (version,) = (await service.views.model(NAME)).versions
    document = version.model_dump()
    assert document.pop("age_seconds") >= 0
    (model_version,) = service.registry
    assert document == {
        "version": "1.0.0",
        "sha256": model_version.entry.sha256,
        "size": model_version.entry.size,
        "state": "ready",
        "default": True,
        "share": 100,
        "workers": {"wanted": 1, "ready": 1},
        "registered": model_version.registered,
        "requests": 11,
        "errors": 1,
        "rejections": 2,
        "latency": {"p50": pytest.approx(0.05), "p95": pytest.approx(0.095)},
    }


async def test_requests_are_counted_at_the_proxy_as_well_as_in_workers(service: Service) -> None:
    service.torchserve.behavior.metrics = METRICS
    for status in [503] * 4 + [200] * 3 + [415]:  # four that no worker saw
        service.traffic.add(AccessEvent(NAME, "1.0.0", pinned=True, status=status, seconds=None))
    (version,) = (await service.views.model(NAME)).versions
    assert (version.requests, version.errors, version.rejections) == (11, 4, 2)


async def test_an_unknown_model_is_an_error(service: Service) -> None:
    with pytest.raises(NotServedError, match=r"Unknown model 'lung'. Available: brightness\."):
        await service.views.model("lung")


async def test_a_server_has_every_model_and_whether_there_is_a_proxy(proxied: Service) -> None:
    server = await proxied.views.server()
    assert server.front is True
    assert [(model.name, model.previous, model.rollout) for model in server.models] == [(NAME, None, None)]


@pytest.mark.parametrize(
    ("ready", "state", "is_open"), [(0, "starting", True), (1, "degraded", True), (2, "ready", True)]
)
async def test_the_state_of_a_declared_version_follows_its_workers(
    service: Service, ready: int, state: str, is_open: bool
) -> None:
    await service.version_manager.scale(NAME, "1.0.0", 2, ADA)
    service.torchserve.behavior.ready = ready
    (version,) = (await service.views.model(NAME)).versions
    assert version.state == state
    (model_version,) = service.registry
    assert service.views.is_open(model_version) is is_open


async def test_a_candidate_is_closed_until_its_rollout_gives_it_a_share(proxied: Service) -> None:
    candidate = await proxied.version_manager.register_candidate(NAME, "2.0.0", None)
    assert (await proxied.views.version(candidate)).state == "candidate"
    assert not proxied.views.is_open(candidate)
    rollout = await proxied.rollouts.start(NAME, RolloutSpec(version="2.0.0"), ADA)
    await proxied.until(lambda: rollout.share == 5)
    assert proxied.views.is_open(candidate)
    assert [proxied.views.share(NAME, version) for version in ("1.0.0", "2.0.0", "3.0.0")] == [95, 5, 0]
    status = (await proxied.views.model(NAME)).rollout
    assert status is not None
    assert status.phase == "canary"
    await rollout.abort(ADA)
    assert [proxied.views.share(NAME, version) for version in ("1.0.0", "2.0.0")] == [100, 0]


async def test_a_standby_version_is_open(service: Service) -> None:
    standby = await service.version_manager.register(NAME, "2.0.0", None, ADA)
    assert service.views.is_open(standby)
    assert (await service.views.version(standby)).latency is None


async def test_a_version_that_is_being_unregistered_is_leaving_and_closed(service: Service) -> None:
    standby = await service.version_manager.register(NAME, "2.0.0", None, ADA)
    service.torchserve.behavior.pending = 1
    service.unregistration.start(standby)
    assert (await service.views.version(standby)).state == "leaving"
    assert not service.views.is_open(standby)


async def test_versions_are_shown_while_torchserve_does_not_respond(service: Service) -> None:
    service.torchserve.die()
    (version,) = (await service.views.model(NAME)).versions
    assert (version.version, version.requests) == ("1.0.0", 0)
