"""Tests of handlers.distribution."""

import json
from pathlib import Path
from typing import Any

import pytest

from handlers import distribution, recipe
from handlers.recipe import Recipe
from tests.conftest import brightness_recipe

DETECTOR = "d" * 64
METRICS: dict[str, Any] = {
    "temperature": 2.0,
    "threshold": 0.6,
    "reference": {
        "shares": {"label": {"dark": 0.25, "bright": 0.75}, "probability": {"0.1": 1.0}, "domain": {"10": 1.0}},
        "detector_sha256": DETECTOR,
    },
}


def brightness(**changes: Any) -> Recipe:
    return recipe.parse(brightness_recipe() | changes, "test")


def with_detector(sha256: str = DETECTOR) -> Recipe:
    section = {"file": "d", "sha256": sha256, "method": "m", "parts": ["shape"], "marked": 1, "refused": 2}
    return brightness(detector=section | {"fitted": "f", "split": "0" * 64})


def predicted(probability: float, **more: Any) -> dict[str, Any]:
    label = "bright" if probability >= 0.6 else "dark"
    return {"label": label, "probabilities": {"dark": 1 - probability, "bright": probability}} | more


@pytest.mark.parametrize(("value", "name"), [(0.0, "0.1"), (0.1, "0.1"), (0.3, "0.3"), (0.3001, "0.4"), (1.0, "1")])
def test_the_upper_bound_belongs_to_a_tenth(value: float, name: str) -> None:
    assert distribution.of_prediction(brightness(), predicted(value))[1] == ("probability", name)


@pytest.mark.parametrize(("percentile", "name"), [(0.0, "10"), (10.0, "10"), (97.8, "100"), (100.0, "100")])
def test_a_percentile_has_a_tenth(percentile: float, name: str) -> None:
    assert distribution.of_percentile(percentile) == ("domain", name)


def test_every_bin_is_known_in_advance() -> None:
    model = with_detector()
    every = distribution.bins(model)
    assert len(every) == len(set(every)) == 2 + 10 + 10
    for step in range(101):
        assert set(distribution.of_prediction(model, predicted(step / 100))) <= set(every)
        assert distribution.of_percentile(step) in every


def test_the_probability_of_many_labels_is_that_of_the_predicted_one() -> None:
    assert distribution.probability(brightness(decision=None), predicted(0.3)) == 0.7


def test_a_stated_prevalence_does_not_change_the_probability() -> None:
    calibrated = brightness(calibration={"temperature": 2.0, "prevalence": 0.5, "fitted": "by hand"})
    rare = predicted(0.1, prevalence=0.1)  # 0.5 at the prevalence of the recipe
    assert distribution.probability(calibrated, rare) == pytest.approx(0.5)


def test_shares_of_a_kind_add_up_to_one_and_include_empty_bins() -> None:
    bright: distribution.Bin = ("label", "bright")
    shares = distribution.shares(
        [bright, bright, bright, ("label", "dark"), ("domain", "100")], distribution.bins(with_detector())
    )
    assert shares["label"] == {"dark": 0.25, "bright": 0.75}
    assert shares["domain"] == {str(10 * tenth): float(tenth == 10) for tenth in range(1, 11)}
    assert "probability" not in shares


@pytest.mark.parametrize(
    ("documents", "header"),
    [
        ([], {}),
        ([{}], {}),
        ([{"label": "glioma"}], {"X-Outcome": "label:glioma:1"}),
        (
            [{"label": "a", "domain": {"status": "normal"}}, {"domain": {"status": "unlike"}}, {"label": "a"}],
            {"X-Outcome": "label:a:2,domain:normal:1,domain:unlike:1"},
        ),
        ([{"label": "a, b: é", "domain": {"mode": "off"}}], {"X-Outcome": "label:a%2C%20b%3A%20%C3%A9:1"}),
        ([{"label": "x" * 600}], {}),  # more than a datagram of the proxy has room for
    ],
)
def test_the_header_counts_labels_and_statuses(documents: list[dict[str, Any]], header: dict[str, str]) -> None:
    assert distribution.outcome_header(documents) == header


def loaded(folder: Path, model: Recipe, metrics: Any = METRICS) -> set[str]:
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return {kind for kind, _ in distribution.load(folder, model)}


def test_an_archive_without_reference_has_none(tmp_path: Path) -> None:
    assert distribution.load(tmp_path, brightness()) == {}
    assert loaded(tmp_path, brightness(), {"temperature": 2.0}) == set()


def test_the_reference_has_the_shares_of_the_metrics(tmp_path: Path) -> None:
    assert loaded(tmp_path, with_detector()) == {"label", "probability", "domain"}
    assert distribution.load(tmp_path, with_detector())["label", "bright"] == 0.75


def test_a_reference_of_another_detector_or_decision_does_not_apply(tmp_path: Path) -> None:
    assert loaded(tmp_path, brightness()) == {"label", "probability"}
    assert loaded(tmp_path, with_detector("e" * 64)) == {"label", "probability"}
    other = with_detector().model_dump(mode="json", exclude_unset=True)
    other["decision"]["threshold"] = 0.5  # as of a site profile
    assert loaded(tmp_path, recipe.parse(other, "test")) == {"domain"}
    cooler = with_detector().model_dump(mode="json", exclude_unset=True)
    cooler["calibration"]["temperature"] = 1.0
    assert loaded(tmp_path, recipe.parse(cooler, "test")) == {"domain"}


def test_a_site_profile_leaves_only_the_reference_of_the_detector(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    reference = distribution.load(tmp_path, with_detector(), has_profile=True)
    assert {kind for kind, _ in reference} == {"domain"}


@pytest.mark.parametrize(
    ("metrics", "reason"),
    [
        (METRICS | {"reference": {"shares": {"label": {"dark": 2.0}}}}, "dark"),
        (METRICS | {"reference": {}}, "key 'reference.shares' is missing"),
        (METRICS | {"reference": None}, "reference"),
        ({"reference": METRICS["reference"]}, "key 'temperature' is missing"),
        ([], "reference"),
    ],
)
def test_an_invalid_reference_is_logged_and_ignored(
    metrics: Any, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert loaded(tmp_path, brightness(), metrics) == set()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "metrics.json: the reference of monitoring is invalid: " in record.getMessage()
    assert reason in record.getMessage()


def test_an_unreadable_file_of_metrics_is_logged_and_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "metrics.json").write_bytes(b"{")
    assert distribution.load(tmp_path, brightness()) == {}
    assert "the reference of monitoring is invalid" in caplog.text
