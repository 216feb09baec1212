"""Two answers to one copy, and what many of them show."""

from __future__ import annotations

from typing import Any

import pytest

from radserve.versions.shadow import Answered, Copy, Report, compare

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
REFUSED = {"status": 422, "title": "Unusable image", "detail": "..."}
MASK = {"label": "glioma", "positive": True, "area": {"pixels": 10, "fraction": 0.10}}
LARGER = {"label": "glioma", "positive": True, "area": {"pixels": 20, "fraction": 0.20}}


def answered(document: dict[str, Any], status: int = 200, seconds: float = 0.01) -> Answered:
    return Answered(status, document, seconds)


@pytest.mark.parametrize(
    ("stable", "candidate", "agree", "largest"),
    [
        (answered(PNEUMONIA), answered(PNEUMONIA), True, 0.0),
        (answered(PNEUMONIA), answered(LESS_SURE), True, 0.3),
        (answered(PNEUMONIA), answered(NORMAL), False, 0.5),
        (answered(PNEUMONIA), answered(REFUSED, 422), False, 1.0),
        (answered(REFUSED, 422), answered(REFUSED, 422), True, 0.0),
        (answered(REFUSED, 422), answered(REFUSED, 415), False, 1.0),
        (answered(MASK), answered(LARGER), True, 0.1),
        (answered({"predictions": [PNEUMONIA, NORMAL]}), answered({"predictions": [PNEUMONIA, NORMAL]}), True, 0.0),
        (answered({"predictions": [PNEUMONIA, NORMAL]}), answered({"predictions": [PNEUMONIA, LESS_SURE]}), False, 0.2),
        (answered({"predictions": [PNEUMONIA]}), answered({"predictions": [PNEUMONIA, NORMAL]}), False, 1.0),
    ],
)
def test_answers_agree_if_a_doctor_would_read_the_same(
    stable: Answered, candidate: Answered, agree: bool, largest: float
) -> None:
    found = compare(stable, candidate)
    assert found.agree == agree
    assert found.largest == pytest.approx(largest)


def test_a_report_counts_and_keeps_examples_of_what_differs() -> None:
    report = Report()
    for number in range(20):
        other = NORMAL if number % 2 else PNEUMONIA
        copy = Copy(b"", {}, f"request-{number}")
        report.add(copy, answered(PNEUMONIA, seconds=0.010), answered(other, seconds=0.001 * number))
    found = report.document()
    assert (found["compared"], found["agreeing"], found["largest_difference"]) == (20, 10, 0.5)
    assert found["stable"] == {"p50": 0.010, "p95": 0.010}
    assert found["candidate"] == {"p50": 0.010, "p95": 0.019}
    assert found["examples"][-1] == {
        "request_id": "request-19",
        "stable": "pneumonia 0.9000",
        "candidate": "normal 0.6000",
    }
    assert len(found["examples"]) == 5


def test_an_empty_report_says_nothing_of_latency() -> None:
    assert Report().document()["stable"] == {"p50": None, "p95": None}
