"""Markdown of model cards: tables and metrics."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from training.metrics.report import Metric

_METRICS: Final = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "f1": "F1",
    "brier": "Brier score",
    "brier_equal": "Brier score, labels weighted equally",
    "ece": "expected calibration error",
    "ece_equal": "expected calibration error, labels weighted equally",
    "accuracy_top3": "top-3 accuracy",
    "auroc_macro": "AUROC, one label against the rest, mean",
    "average_precision_macro": "average precision, one label against the rest, mean",
    "f1_macro": "F1, mean over labels",
    "dice_patient": "volumetric Dice per patient over all slices, mean",
    "dice_patient_median": "volumetric Dice per patient over all slices, median",
    "dice_slice": "Dice per slice, mean over slices with tumour",
    "hd95": "HD95 in pixels of the network input, mean over slices with tumour; a missed tumour counts as the diagonal",
    "hd95_found": "HD95 in pixels of the network input, mean over slices with tumour and a predicted mask",
    "missed_slices": "share of slices with tumour and an empty predicted mask",
    "false_alarms": "share of slices without tumour but with a predicted mask",
    "accuracy_certain": "accuracy of the certain results",
    "uncertain": "share of uncertain results",
    "second_pass": "share of results with a second pass",
    "second_pass_uncertain": "share of results that the second pass makes uncertain",
    "second_pass_doubted": "number of results that the second pass makes uncertain",
    "second_pass_right": "number of these that were right",
    "ece_stated": "expected calibration error with the share of positives of these images stated",
    "letters_erased": "letters and markers erased: share of films whose probability moves by more than 0.1",
    "letters_of_the_other_label": "letters and markers replaced by those of a film with another label: the same share",
    "borders_cropped": "outer 5% of each side cropped: the same share",
    "sharpness_of_the_other_label": "sharpness and noise of the other label: the same share",
    "relevance_outside_body": "mean share of the Grad-CAM relevance outside of the body",
    "pixel_sensitivity": "pixel sensitivity",
    "pixel_precision": "pixel precision",
}
"""Display names of metrics; others use their key."""
_COUNTS: Final = frozenset({"second_pass_doubted", "second_pass_right"})


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table."""
    lines = ["| " + " | ".join(map(str, line)) + " |" for line in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def metrics_table(metrics: Mapping[str, Metric]) -> str:
    """Return a table with a row per metric."""
    return table(
        ("metric", "value"),
        [(metric_name(key), f"{value.value:g}" if key in _COUNTS else metric(value)) for key, value in metrics.items()],
    )


def metric_name(key: str) -> str:
    """Return the display name of a metric."""
    return _METRICS.get(key, key.replace("_", " "))


def metric(value: Metric) -> str:
    """Return a metric with its interval."""
    if value.value is None:
        return "not defined"
    if value.ci95 is None:
        return f"{number(value.value)} (no interval)"
    return f"{number(value.value)} ({number(value.ci95[0])} to {number(value.ci95[1])})"


def number(value: float | None) -> str:
    """Return a number with three digits."""
    return "not defined" if value is None else f"{value:.3f}"
