"""Tests of radserve.versions.torchserve_metrics."""

import pytest

from radserve.versions import torchserve_metrics
from radserve.versions.torchserve_metrics import VersionMetrics

TEXT = """\
# HELP radserve_requests_total Torchserve prometheus counter metric with unit: Count
# TYPE radserve_requests_total counter
radserve_requests_total{model_name="m",model_version="1.0.0",code="200",Hostname="h",} 90.0
radserve_requests_total{model_name="m",model_version="1.0.0",code="422",Hostname="h",} 7.0
radserve_requests_total{model_name="m",model_version="1.0.0",code="500",Hostname="h",} 3.0
radserve_requests_total{model_name="m",model_version="2.0.0",code="200",Hostname="h",} 1.0
# HELP radserve_stage_seconds_bucket Torchserve prometheus counter metric with unit: Count
# TYPE radserve_stage_seconds_bucket counter
radserve_stage_seconds_bucket{model_name="m",model_version="1.0.0",stage="handle",le="0.01",Hostname="h",} 50.0
radserve_stage_seconds_bucket{model_name="m",model_version="1.0.0",stage="handle",le="0.1",Hostname="h",} 100.0
radserve_stage_seconds_bucket{model_name="m",model_version="1.0.0",stage="handle",le="+Inf",Hostname="h",} 100.0
radserve_stage_seconds_bucket{model_name="m",model_version="1.0.0",stage="read",le="+Inf",Hostname="h",} 9.0
ts_queue_latency{model_name="m",model_version="1.0.0",Hostname="h",} 9.0
"""


def test_metrics_are_counted_by_version_with_errors_apart_from_rejections() -> None:
    metrics = torchserve_metrics.parse(TEXT)
    first = metrics["m", "1.0.0"]
    assert (first.requests, first.rejections, first.errors) == (100, 7, 3)
    assert metrics["m", "2.0.0"].requests == 1
    assert first.quantile(0.5) == pytest.approx(0.01)
    assert first.quantile(0.95) == pytest.approx(0.091)


def test_a_quantile_above_the_last_finite_bound_is_that_bound() -> None:
    assert VersionMetrics(buckets={0.1: 1, float("inf"): 10}).quantile(0.95) == pytest.approx(0.1)


def test_without_batches_there_is_no_latency() -> None:
    assert VersionMetrics().quantile(0.95) is None
    assert VersionMetrics(buckets={0.1: 0, float("inf"): 0}).quantile(0.5) is None
