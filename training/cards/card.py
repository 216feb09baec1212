"""Model cards: renders a recipe and its metrics as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from handlers.recipe import Recipe
from handlers.scope.statement import ATTRIBUTES
from training.cards import dataset_notes
from training.cards.dataset_notes import DatasetNotes
from training.errors import RunError
from training.metrics import report
from training.metrics.report import Metric, Refusal, Report

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
    "pixel_sensitivity": "pixel sensitivity",
    "pixel_precision": "pixel precision",
}
"""Display names of metrics; others use their key."""

_DISCLAIMER: Final = (
    "**Not a medical device.** For research only; do not use it for patient care. Not approved by any regulator, and\n"
    "measured on at most one public data set."
)


def card(recipe: Recipe, metrics: Mapping[str, Any] | None, data: str) -> str:
    """Render a model's card; metrics are None if it was never trained. `RunError` if they describe another model."""
    notes = dataset_notes.for_dataset(data)
    measured = None if metrics is None else _checked(report.parse(metrics), recipe, data)
    parts = [
        f"# {recipe.name} {recipe.version}",
        *_status(recipe, measured),
        f"{recipe.title}. {_output(recipe)}",
        _DISCLAIMER,
        "## Intended use and limits",
        f"Intended for: {notes.intended_use}",
        f"Not intended for: {notes.out_of_scope}",
        _rejections(recipe),
        notes.limits,
        "## Input and decision",
        *_input(recipe),
        "## Data",
        *([recipe.trained_on.strip()] if measured else [f"Training data: {notes.source}."]),
        *(_split(measured, notes) if measured else []),
        *(_refusals(measured, recipe) if measured else []),
        "## Results",
        *(_results(measured, recipe) if measured else ["None: the model was never trained."]),
        "## Published results",
        notes.published,
        "## Licence",
        recipe.licence.strip(),
    ]
    return "\n\n".join(parts) + "\n"


def _checked(measured: Report, recipe: Recipe, data: str) -> Report:
    subject = (measured.model.name, measured.model.version, measured.task, measured.data)
    if subject != (recipe.name, recipe.version, recipe.task, data):
        raise RunError(
            f"metrics.json: describes {' '.join(subject)}, the card describes {recipe.name} {recipe.version} "
            f"{recipe.task} {data}. Evaluate the model again."
        )
    return measured


def _status(recipe: Recipe, measured: Report | None) -> list[str]:
    hint = f" To get the weights: `{recipe.weights.source}`." if recipe.weights.source else ""
    if measured is None:
        return [f"**Never trained.** No weights are shipped.{hint}"]
    if measured.demonstration:
        text = "No trained weights are shipped. The results below come from a short run, not from a usable model."
        return [f"**Demonstration only.** {text}{hint}"]
    return [f"**The weights are not shipped with the repository.**{hint}"] if hint else []


def _output(recipe: Recipe) -> str:
    if recipe.task == "segmentation":
        return "Output: a mask with the geometry of the image."
    *first, last = (f"`{label}`" for label in recipe.labels)
    return f"Output: {', '.join(first)} or {last}."


def _rejections(recipe: Recipe) -> str:
    checks = [*(["colour"] if recipe.input.color == "gray" else []), "contrast", "size"]
    text = f"Images are rejected based on {_enumerate(checks)}. {_unlike(recipe)}"
    names = recipe.scope.attributes
    if not names:
        return text
    rows = [(ATTRIBUTES[name], recipe.scope.describe(name)) for name in names]
    return (
        f"{text}\n\nScope: an image is also rejected if it, or its sender, states another value than these. What "
        f"neither states is listed in each response (`unchecked`).\n\n{_table(('attribute', 'valid'), rows)}"
    )


def _unlike(recipe: Recipe) -> str:
    if recipe.detector is None:
        return "Other unsuitable images are analysed without a warning."
    return "Images unlike the training images are rejected or marked by a detector."


def _refusals(measured: Report, recipe: Recipe) -> Iterable[str]:
    """Describe the detector, and what it refused, unless another detector was measured."""
    detector = recipe.detector
    if detector is None:
        return
    yield "## Unlike images"
    yield (
        f"{_sentence(detector.method)} Score of {detector.marked:.3f} or more: unusual; of {detector.refused:.3f} or "
        f"more: unlike. Fitted to {_sentence(detector.fitted)}"
    )
    refusals = measured.refusals
    if refusals is None or refusals.detector_sha256 != detector.sha256:
        yield "Not measured: run `radserve evaluate --ood`."
        return
    yield (
        "Refused (unlike) and marked (unusual or unlike). In parentheses: 95% Wilson score interval. The last column: "
        "refused by the largest probability alone, at the share of held-out images that the detector refuses."
    )
    rows = [(kind, *_refusal(value)) for kind, value in refusals.kinds.items()]
    yield _table(("images", "number", "refused", "marked", "refused by probability"), rows)
    yield f"An assessment takes {refusals.milliseconds:.1f} ms of processor time. Created by `{refusals.command}`."


def _refusal(value: Refusal) -> tuple[object, ...]:
    low, high = value.refused_ci95
    share = f"{value.refused / value.images:.1%} ({low:.1%} to {high:.1%})"
    return value.images, share, f"{value.marked / value.images:.1%}", f"{value.softmax / value.images:.1%}"


def _enumerate(items: Sequence[str]) -> str:
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last


def _input(recipe: Recipe) -> Iterable[str]:
    spec = recipe.input
    height, width = spec.frame or (spec.height, spec.width)
    fit = "aspect ratio kept, padded with black" if spec.fit == "pad" else "aspect ratio not kept"
    crop = f", cropped to the central {spec.height} x {spec.width}" if spec.frame else ""
    color = {"gray": "grayscale", "rgb": "colour"}[spec.color]
    yield (
        f"Input: {color} image of any size, resized to {height} x {width} ({spec.resize}, {fit}){crop}, "
        f"scaled to [0, 1] and normalised with mean {_numbers(spec.mean)} and standard deviation {_numbers(spec.std)}."
    )
    yield _decision(recipe)
    yield f"Calibration: temperature {recipe.calibration.temperature:.4f}. {_sentence(recipe.calibration.fitted)}"


def _decision(recipe: Recipe) -> str:
    decision = recipe.decision
    if decision is None:
        return "Decision: the most probable label, without a threshold."
    if recipe.task == "segmentation":
        least = f"; masks of fewer than {decision.smallest} pixels are emptied" if decision.smallest > 1 else ""
        subject = "pixels with a probability"
    else:
        least, subject = "", "images with a calibrated probability"
    return (
        f"Decision: {subject} of {decision.threshold:.4f} or more are `{decision.positive}`{least}. "
        f"{_sentence(decision.chosen)}"
    )


def _split(measured: Report, notes: DatasetNotes) -> Iterable[str]:
    split = measured.split
    sides = {"training": split.train, "validation" if measured.part == "validation" else "measured": split.validation}
    known = {name: side for name, side in sides.items() if side is not None}
    labels = list(dict.fromkeys(label for side in known.values() for label in side.labels))
    yield _table(
        ("part", notes.unit, notes.group, " / ".join(labels)),
        [
            (name, side.images, side.groups, " / ".join(str(side.labels.get(label, 0)) for label in labels))
            for name, side in known.items()
        ],
    )
    if measured.part == "all":
        yield f"All images of the folder were measured. SHA-256 of the list: `{split.sha256}`."
    else:
        yield (
            f"Split by {notes.group}, each on one side only. Seed {measured.seed}, SHA-256 of the split "
            f"`{split.sha256}`."
        )


def _results(measured: Report, recipe: Recipe) -> Iterable[str]:
    if measured.part == "all":
        yield "Measured on separate data. Whether the model was trained on any of it cannot be verified."
    else:
        selected = "epoch, temperature and threshold" if recipe.decision else "epoch and temperature"
        yield f"Measured on the validation part, which also selected {selected}. Expect lower accuracy elsewhere."
    yield f"In parentheses: {measured.interval}."
    rows = [(_name(key), _metric(metric)) for key, metric in measured.validation.items()]
    yield _table(("metric", "value"), rows)
    if measured.confusion:
        yield _confusion(measured.confusion)
    if measured.stress:
        yield "Robustness: the same images with artificial changes."
        names = list(next(iter(measured.stress.values())))
        changed = [(key, *(_number(row.get(name)) for name in names)) for key, row in measured.stress.items()]
        yield _table(("change", *map(_name, names)), changed)
    epoch = "" if measured.epoch is None else f" (epoch {measured.epoch})"
    yield f"Created by `{measured.command}`{epoch}; SHA-256 of the weights `{measured.model.weights_sha256}`."


def _confusion(counts: Mapping[str, int] | Mapping[str, dict[str, int]]) -> str:
    rows = {label: row for label, row in counts.items() if isinstance(row, dict)}
    if not rows:
        text = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in counts.items())
        return f"Confusion at the threshold: {text}."
    return "Confusion matrix: a row per true label, a column per predicted label.\n\n" + _table(
        ("", *rows), [(label, *(row.get(predicted, 0) for predicted in rows)) for label, row in rows.items()]
    )


def _name(key: str) -> str:
    return _METRICS.get(key, key.replace("_", " "))


def _metric(metric: Metric) -> str:
    if metric.value is None or metric.ci95 is None:
        return "not defined"
    return f"{_number(metric.value)} ({_number(metric.ci95[0])} to {_number(metric.ci95[1])})"


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(map(str, line)) + " |" for line in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def _sentence(text: str) -> str:
    return f"{text.strip().rstrip('.')}."


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4f}" for value in dict.fromkeys(values))
