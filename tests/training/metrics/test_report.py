import json
import math
from typing import Any

import pytest

from training.errors import RunError
from training.metrics import report

SIDE = {"images": 3, "groups": 2, "labels": {"normal": 1, "pneumonia": 2}}


def make(**changes: object) -> dict[str, Any]:
    """Return the content of a complete metrics.json, with changes."""
    result: dict[str, Any] = {
        "model": {"name": "chest-xray-cnn", "version": "1.0.0", "weights_sha256": "a" * 64},
        "task": "classification",
        "data": "chest_xray",
        "command": "radserve train chest-xray-cnn",
        "seed": 1,
        "epoch": 4,
        "temperature": 0.8,
        "threshold": 0.47,
        "split": {"sha256": "b" * 64, "train": SIDE, "validation": SIDE},
        "interval": "95% confidence interval, percentile bootstrap over patients, 2000 rounds",
        "validation": {"auroc": {"value": 0.9, "ci95": [0.8, 0.95]}},
        "confusion": {"true_positive": 5, "false_negative": 1, "false_positive": 2, "true_negative": 7},
    }
    return result | changes


def test_a_complete_report_is_valid() -> None:
    result = report.parse(json.loads(json.dumps(make(stress={"dark": {"auroc": 0.8}}))))
    assert result.validation["auroc"].ci95 == (0.8, 0.95)
    assert result.split.validation.groups == 2
    assert not result.demonstration


def test_a_confusion_matrix_of_many_labels_is_valid() -> None:
    result = report.parse(make(confusion={"cat": {"cat": 3, "dog": 1}, "dog": {"cat": 0, "dog": 2}}, threshold=None))
    assert result.confusion == {"cat": {"cat": 3, "dog": 1}, "dog": {"cat": 0, "dog": 2}}


@pytest.mark.parametrize("key", ["model", "task", "data", "command", "split", "interval", "validation"])
def test_a_missing_key_is_reported(key: str) -> None:
    result = make()
    del result[key]
    with pytest.raises(RunError, match=f"metrics.json: key '{key}'"):
        report.parse(result)


def test_a_report_of_the_first_release_is_rejected_with_the_changed_keys() -> None:
    side = {"films": 3, "patients": 2, "labels": {}}
    with pytest.raises(RunError, match=r"'split.train.images'.*'split.train.films'"):
        report.parse(make(split={"sha256": "b" * 64, "train": side, "validation": SIDE}))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_not_finite_is_rejected(value: float) -> None:
    with pytest.raises(RunError, match=r"validation.auroc.value"):
        report.parse(make(validation={"auroc": {"value": value, "ci95": [0, 1]}}))
