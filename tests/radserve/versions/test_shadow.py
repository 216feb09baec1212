"""Tests of radserve.versions.shadow."""

import asyncio
from math import log
from typing import Any

import pytest

from radserve.schema.rollout import Latency, ShadowExample
from radserve.versions import shadow
from radserve.versions.shadow import CopiedRequest, ShadowComparison, ShadowReport, VersionResponse, compare
from tests.radserve.versions.conftest import NAME, Service

PNEUMONIA = {
    "label": "pneumonia",
    "positive": True,
    "probability": 0.9,
    "probabilities": {"normal": 0.1, "pneumonia": 0.9},
}
LESS_SURE = {
    "label": "pneumonia",
    "positive": True,
    "probability": 0.6,
    "probabilities": {"normal": 0.4, "pneumonia": 0.6},
}
NORMAL = {"label": "normal", "positive": False, "probability": 0.6, "probabilities": {"normal": 0.6, "pneumonia": 0.4}}
REJECTED = {"status": 422, "title": "Unusable image", "detail": "..."}
MASK = {"label": "glioma", "positive": True, "area": {"pixels": 10, "fraction": 0.10}}
LARGER = {"label": "glioma", "positive": True, "area": {"pixels": 20, "fraction": 0.20}}

COPY = CopiedRequest(b"image", {"Content-Type": "image/png", "X-Client-Id": "ward"}, "id")


def response(document: dict[str, Any], status: int = 200, seconds: float = 0.01) -> VersionResponse:
    return VersionResponse(status, document, seconds)


@pytest.mark.parametrize(
    ("stable", "candidate", "agree", "largest"),
    [
        (response(PNEUMONIA), response(PNEUMONIA), True, 0.0),
        (response(PNEUMONIA), response(LESS_SURE), True, 0.3),
        (response(PNEUMONIA), response(NORMAL), False, 0.5),
        (response(PNEUMONIA), response(REJECTED, 422), False, 1.0),
        (response(REJECTED, 422), response(REJECTED, 422), True, 0.0),
        (response(REJECTED, 422), response(REJECTED, 415), False, 1.0),
        (response(MASK), response(LARGER), True, 0.1),
        (response({"predictions": [PNEUMONIA, NORMAL]}), response({"predictions": [PNEUMONIA, NORMAL]}), True, 0.0),
        (response({"predictions": [PNEUMONIA, NORMAL]}), response({"predictions": [PNEUMONIA, LESS_SURE]}), False, 0.2),
        (response({"predictions": [PNEUMONIA]}), response({"predictions": [PNEUMONIA, NORMAL]}), False, 1.0),
    ],
)
def test_responses_agree_if_they_lead_to_the_same_reading(
    stable: VersionResponse, candidate: VersionResponse, agree: bool, largest: float
) -> None:
    agrees, difference = compare(stable, candidate)
    assert agrees is agree
    assert difference == pytest.approx(largest)


@pytest.mark.parametrize(
    ("document", "status", "summary"),
    [
        (PNEUMONIA, 200, "pneumonia 0.9000"),
        (MASK, 200, "glioma 0.1000"),
        ({"label": "glioma"}, 200, "glioma"),
        (REJECTED, 422, "422 Unusable image"),
        ({}, 500, "500"),
    ],
)
def test_a_summary_names_label_and_probability_or_the_problem(
    document: dict[str, Any], status: int, summary: str
) -> None:
    assert response(document, status).summary() == summary


def test_a_report_counts_responses_and_keeps_examples_of_differences() -> None:
    report = ShadowReport()
    for number in range(20):
        candidate = NORMAL if number % 2 else PNEUMONIA
        copy = CopiedRequest(b"", {}, f"request-{number}")
        report.add(copy, response(PNEUMONIA, seconds=0.010), response(candidate, seconds=0.001 * number))
    document = report.document()
    assert (document.compared, document.agreeing, document.largest_difference) == (20, 10, 0.5)
    assert document.stable == Latency(p50=0.010, p95=0.010)
    assert document.candidate == Latency(p50=0.010, p95=0.019)
    assert document.examples[-1] == ShadowExample(
        request_id="request-19", stable="pneumonia 0.9000", candidate="normal 0.6000"
    )
    assert len(document.examples) == 5


def test_a_report_measures_how_the_distributions_shift() -> None:
    report = ShadowReport()
    near, far = {"status": "normal", "percentile": 31.0}, {"status": "unlike", "percentile": 100.0}
    for _ in range(100):
        report.add(COPY, response(PNEUMONIA | {"domain": near}), response(LESS_SURE | {"domain": near}))
        report.add(COPY, response(NORMAL | {"domain": near}), response(REJECTED | {"domain": far}, 422))
    document = report.document()
    assert document.images == {"label": 100, "probability": 100, "domain": 200, "percentile": 200}
    shifts = document.shifts
    assert set(shifts) == set(document.images)
    assert shifts["label"] == pytest.approx((1 - 0.5) * log(1 / 0.5) + (0.001 - 0.5) * log(0.001 / 0.5), abs=1e-4)
    assert shifts["domain"] == shifts["percentile"] > 1


def test_few_images_have_a_shift_only_if_it_is_significant() -> None:
    report = ShadowReport()
    for number in range(199):
        report.add(COPY, response(MASK), response(MASK | {"label": "none"} if number < 9 else MASK))
    assert report.document().images == {"label": 199}
    assert report.document().shifts == {}
    report.add(COPY, response(MASK), response(MASK))
    assert set(report.document().shifts) == {"label"}


def test_a_value_that_one_version_never_states_has_no_images() -> None:
    report = ShadowReport()
    report.add(COPY, response(MASK), response(MASK | {"domain": {"status": "normal"}}))
    assert report.document().images == {"domain": 0, "label": 1}


def test_a_malformed_response_is_not_counted() -> None:
    report = ShadowReport()
    with pytest.raises(TypeError):
        report.add(COPY, response(MASK), response({"label": "glioma", "domain": {"percentile": "high"}}))
    assert report == ShadowReport()


def test_equal_responses_have_no_shift() -> None:
    report = ShadowReport()
    for _ in range(200):
        report.add(COPY, response(MASK), response(MASK))
        report.add(COPY, response(REJECTED, 422), response(REJECTED, 422))
    assert report.document().shifts == {"label": 0}


def test_an_empty_report_has_no_latency() -> None:
    assert ShadowReport().document().stable == Latency()


@pytest.mark.anyio
async def test_each_copy_is_sent_to_both_versions(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.torchserve._load(f"{NAME}-2.0.0.mar", 1)
    comparison = ShadowComparison(service.torchserve.inference, NAME, "1.0.0", "2.0.0")
    try:
        for _ in range(3):
            assert comparison.add(COPY)
        await service.until(lambda: comparison.report.compared == 3)
    finally:
        await comparison.close()
    assert service.torchserve.predictions == {(NAME, "1.0.0"): 3, (NAME, "2.0.0"): 3}
    assert (comparison.report.agreeing, comparison.report.failed) == (3, 0)


@pytest.mark.anyio
@pytest.mark.parametrize("limit", ["_MAX_QUEUED", "_MAX_QUEUED_BYTES"])
async def test_copies_beyond_the_queue_are_dropped(
    service: Service, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(shadow, limit, 2 if limit == "_MAX_QUEUED" else 2 * len(COPY.body))
    comparison = ShadowComparison(service.torchserve.inference, NAME, "1.0.0", "2.0.0")
    try:
        assert [comparison.add(COPY) for _ in range(4)] == [True, True, False, False]
        assert (comparison.report.copies, comparison.report.dropped) == (4, 2)
    finally:
        await comparison.close()


@pytest.mark.anyio
async def test_a_copy_without_two_comparable_responses_is_counted_and_the_next_one_compared(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.torchserve._load(f"{NAME}-2.0.0.mar", 1)
    comparison = ShadowComparison(service.torchserve.inference, NAME, "1.0.0", "2.0.0")
    try:
        service.torchserve.behavior.prediction = {"predictions": 1}
        comparison.add(COPY)
        await service.until(lambda: comparison.report.failed == 1)
        service.torchserve.behavior.prediction = {}
        comparison.add(COPY)
        await service.until(lambda: comparison.report.compared == 1)
        service.torchserve.die()
        comparison.add(COPY)
        await service.until(lambda: comparison.report.failed == 2)
        await asyncio.sleep(0)
    finally:
        await comparison.close()
    assert "a copied request was not compared" in caplog.text
