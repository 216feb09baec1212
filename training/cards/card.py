"""The model card: what a recipe and its figures say, for the person who has to trust them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from handlers.recipe import Recipe
from training.cards import datasets
from training.cards.datasets import About
from training.errors import RunError
from training.metrics import report
from training.metrics.report import Figure, Report

_FIGURES: Final = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "f1": "F1",
    "brier": "Brier score",
    "brier_equal": "Brier score, both labels weighed alike",
    "ece": "expected calibration error",
    "ece_equal": "expected calibration error, both labels weighed alike",
    "accuracy_top3": "right label among the three most probable",
    "auroc_macro": "AUROC, each label against the rest, mean",
    "average_precision_macro": "average precision, each label against the rest, mean",
    "f1_macro": "F1, mean over the labels",
    "dice_patient": "volumetric Dice of a patient over all slices, mean over patients",
    "dice_patient_median": "volumetric Dice of a patient over all slices, median",
    "dice_slice": "Dice of a slice, mean over slices with tumour",
    "hd95": "HD95 in pixels of the network's input, mean over slices with tumour; a missed one counts as the diagonal",
    "hd95_found": "HD95 in pixels of the network's input, mean over slices with tumour in which something was marked",
    "missed_slices": "share of slices with tumour in which nothing was marked",
    "false_alarms": "share of slices without tumour in which something was marked",
    "pixel_sensitivity": "share of all tumour pixels that are marked",
    "pixel_precision": "share of all marked pixels that are tumour",
}
"""A figure that is not here goes by its key."""

_NO_DEVICE: Final = (
    "**No medical device.** It has been measured on one public data set at most and cleared by nobody. Use it for "
    "research and\nengineering; let no decision about a person depend on it."
)


def card(recipe: Recipe, metrics: Mapping[str, Any] | None, data: str) -> str:
    """Write the card of a model.

    Parameters
    ----------
    metrics
        Its metrics.json (see `training.metrics.report`); None where it was never trained.
    data
        Name of the data set that it is trained on.

    Raises
    ------
    RunError
        If the figures are incomplete, or of another model or data set.
    SettingsError
        If nothing is known of the data set.
    """
    words = datasets.of(data)
    measured = None if metrics is None else _checked(report.parse(metrics), recipe, data)
    parts = [
        f"# {recipe.name} {recipe.version}",
        *_status(recipe, measured),
        f"{recipe.title}. {_answers(recipe)}",
        _NO_DEVICE,
        "## What it is for, and what not",
        f"For: {words.for_use}",
        f"Not for: {words.not_for}",
        _refusals(recipe),
        "## Input and decision",
        _input(recipe),
        "## Data",
        *([recipe.trained_on.strip()] if measured else [f"To be trained on: {words.source}."]),
        *(_split(measured, words) if measured else []),
        "## Figures",
        *(_figures(measured, recipe) if measured else ["None: nothing was trained, so nothing was measured."]),
        "## Figures of others",
        words.published,
        "## Limits",
        words.limits,
        "## Licence",
        recipe.licence.strip(),
    ]
    return "\n\n".join(parts) + "\n"


def _checked(measured: Report, recipe: Recipe, data: str) -> Report:
    told = (measured.model.name, measured.model.version, measured.task, measured.data)
    if told != (recipe.name, recipe.version, recipe.task, data):
        raise RunError(
            f"metrics.json: is about {' '.join(told)}, the card about {recipe.name} {recipe.version} {recipe.task} "
            f"{data}. Evaluate the model anew."
        )
    return measured


def _status(recipe: Recipe, measured: Report | None) -> list[str]:
    """Say first what a reader must not overlook."""
    how = f" To get them: `{recipe.weights.source}`." if recipe.weights.source else ""
    if measured is None:
        return [f"**Never trained.** No weights are shipped.{how}"]
    if measured.demonstration:
        said = "The figures below are those of a short run, which shows that training and serving work"
        no = "they are not the figures of a usable model"
        return [f"**Demonstration only.** No trained weights are shipped. {said};\n{no}.{how}"]
    return [f"**Weights are not shipped with the repository.**{how}"] if how else []


def _answers(recipe: Recipe) -> str:
    if recipe.task == "segmentation":
        return "Answers with a mask in the geometry of the image, and whether it marks anything."
    *first, last = (f"`{label}`" for label in recipe.labels)
    return f"Answers with {', '.join(first)} or {last}."


def _refusals(recipe: Recipe) -> str:
    told = [*(["colour"] if recipe.input.color == "gray" else []), "contrast", "size"]
    if recipe.input.dicom:
        told.append(f"DICOM attributes {', '.join(recipe.input.dicom)}")
    return f"Images are refused where that can be told ({', '.join(told)}), and answered where it cannot."


def _input(recipe: Recipe) -> str:
    spec = recipe.input
    height, width = spec.frame or (spec.height, spec.width)
    fit = "its aspect kept, black around it" if spec.fit == "pad" else "its aspect ignored"
    cut = f", of which the middle {spec.height} x {spec.width} is used" if spec.frame else ""
    color = {"gray": "Gray", "rgb": "Colour"}[spec.color]
    return (
        f"{color} image of any size, resized to {height} x {width} ({spec.resize}, {fit}){cut}; of full scale, mean "
        f"{_numbers(spec.mean)} and deviation {_numbers(spec.std)}.\n{_decision(recipe)}"
        f"\nTemperature {recipe.calibration.temperature:.4f}: {_clause(recipe.calibration.fitted)}."
    )


def _decision(recipe: Recipe) -> str:
    decision = recipe.decision
    if decision is None:
        return "The answer is the most probable label; there is no threshold."
    if recipe.task == "segmentation":
        least = f"; a mask of fewer than {decision.smallest} pixels is emptied" if decision.smallest > 1 else ""
        return (
            f"A pixel is `{decision.positive}` from a probability of {decision.threshold:.4f} on{least}: "
            f"{_clause(decision.chosen)}."
        )
    return (
        f"Positive is `{decision.positive}` from a calibrated probability of {decision.threshold:.4f} on: "
        f"{_clause(decision.chosen)}."
    )


def _split(measured: Report, words: About) -> Iterable[str]:
    split = measured.split
    sides = {"training": split.train, "validation" if measured.part == "validation" else "measured": split.validation}
    known = {name: side for name, side in sides.items() if side is not None}
    labels = list(dict.fromkeys(label for side in known.values() for label in side.labels))
    yield _table(
        ("side", words.unit, words.group, " / ".join(labels)),
        [
            (name, side.images, side.groups, " / ".join(str(side.labels.get(label, 0)) for label in labels))
            for name, side in known.items()
        ],
    )
    if measured.part == "all":
        yield f"Everything in the folder was measured; sha256 of the list `{split.sha256}`."
    else:
        yield (
            f"Split by {words.group}, none of which is on both sides; seed {measured.seed}, sha256 of the split "
            f"`{split.sha256}`."
        )


def _figures(measured: Report, recipe: Recipe) -> Iterable[str]:
    yield f"{_measured_on(measured, recipe)}\nIn brackets: {measured.interval}."
    rows = [(_FIGURES.get(key, key.replace("_", " ")), _figure(figure)) for key, figure in measured.validation.items()]
    yield _table(("figure", "value"), rows)
    if measured.confusion:
        yield _confusion(measured.confusion)
    if measured.stress:
        yield "The same images, changed on purpose:"
        names = list(next(iter(measured.stress.values())))
        changed = [(key, *(_number(row.get(name)) for name in names)) for key, row in measured.stress.items()]
        yield _table(("change", *(_FIGURES.get(name, name.replace("_", " ")) for name in names)), changed)
    epoch = "" if measured.epoch is None else f" (epoch {measured.epoch})"
    yield f"Made by `{measured.command}`{epoch}; weights sha256 `{measured.model.weights_sha256}`."


def _measured_on(measured: Report, recipe: Recipe) -> str:
    if measured.part == "all":
        return "On data of which training must not have seen anything; nobody but who gave it can tell whether it had."
    chosen = "epoch, temperature and threshold" if recipe.decision else "epoch and temperature"
    return f"On the validation side, which also chose {chosen}: expect less elsewhere."


def _confusion(counts: Mapping[str, int] | Mapping[str, dict[str, int]]) -> str:
    rows = {right: row for right, row in counts.items() if isinstance(row, dict)}
    if not rows:
        told = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in counts.items())
        return f"Confusion at the threshold: {told}."
    return "Counts, a row a right label, a column a label that was told:\n\n" + _table(
        ("", *rows), [(right, *(row.get(told, 0) for told in rows)) for right, row in rows.items()]
    )


def _figure(figure: Figure) -> str:
    if figure.value is None or figure.ci95 is None:
        return "not defined"
    return f"{_number(figure.value)} ({_number(figure.ci95[0])} to {_number(figure.ci95[1])})"


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(map(str, line)) + " |" for line in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def _clause(text: str) -> str:
    return text.strip().rstrip(".")


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4f}" for value in dict.fromkeys(values))
