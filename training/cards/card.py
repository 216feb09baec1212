"""Model cards: renders a recipe and its metrics as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from handlers.certainty import band
from handlers.recipe import Recipe
from handlers.scope.statement import ATTRIBUTES
from training.cards import dataset_notes, external, front_matter, known_failures
from training.cards.dataset_notes import DatasetNotes
from training.cards.markdown import metric_name, metrics_table, number, table
from training.errors import RunError
from training.metrics import report
from training.metrics.report import Refusal, Report

_DISCLAIMER: Final = (
    "**Not a medical device.** For research only; do not use it for patient care. Not approved by any regulator, and\n"
    "measured on public data sets at most."
)


def card(recipe: Recipe, metrics: Mapping[str, Any] | None, data: str) -> str:
    """Render a model's card; metrics are None if it was not measured. `RunError` if they describe another model."""
    notes = dataset_notes.for_dataset(data)
    measured = None if metrics is None else _checked(report.parse(metrics), recipe, data)
    imported = is_imported(recipe, metrics)
    parts = [
        front_matter.render(recipe, measured, data, "unknown" if imported else notes.licence),
        f"# {recipe.name} {recipe.version}",
        *_status(recipe, measured),
        f"{recipe.title}. {_output(recipe)}",
        _DISCLAIMER,
        "## Intended use and limits",
        f"Intended for: {notes.intended_use}",
        f"Not intended for: {notes.out_of_scope}",
        _rejections(recipe),
        notes.limits,
        *known_failures.section(recipe),
        "## Input and decision",
        *_input(recipe),
        "## Data",
        recipe.trained_on.strip() if measured or imported else f"Training data: {notes.source}.",
        *(_split(measured, notes) if measured else []),
        *(_refusals(measured, recipe) if measured else []),
        "## Results",
        *(_results(measured, recipe) if measured else [_unmeasured(recipe, imported=imported)]),
        *external.section(measured),
        *_runtime(recipe),
        "## Published results",
        notes.published,
        "## Licence",
        recipe.licence.strip(),
        *([] if imported else [notes.licence_note]),
    ]
    return "\n\n".join(parts) + "\n"


def _runtime(recipe: Recipe) -> list[str]:
    """Return the section about the time that the network takes, if it was measured."""
    runtime = recipe.runtime
    if not runtime.milliseconds:
        return []
    names = {"torch": "torch", "onnxruntime": "ONNX Runtime"}
    rows = [
        (f"{names[engine]}{' (used on CPUs)' if engine == runtime.engine else ''}", f"{one} ms", f"{eight} ms")
        for engine, (one, eight) in runtime.milliseconds.items()
    ]
    note = f"CPU time of the network alone on one thread ({runtime.measured}), for equal outputs."
    return ["## Speed", note, table(("engine", "batch of 1", "batch of 8"), rows)]


def is_imported(recipe: Recipe, metrics: Mapping[str, Any] | None) -> bool:
    """Whether there are weights that were not measured here: those of `radserve import`."""
    return metrics is None and recipe.weights.sha256 is not None


def _unmeasured(recipe: Recipe, *, imported: bool) -> str:
    if imported:
        return f"None: not measured. Run `radserve evaluate {recipe.name} --data DIR`."
    return "None: the model was never trained."


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
    if measured is None and recipe.weights.sha256 is not None:
        return ["**Imported weights; not measured.** The threshold and the probabilities were not chosen with them."]
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
    rows = [(ATTRIBUTES[name], recipe.scope.describe(name)) for name in recipe.scope.attributes]
    if rows:
        text += (
            "\n\nScope: an image is also rejected if it, or its sender, states another value than these. What neither "
            f"states is listed in each response (`unchecked`).\n\n{table(('attribute', 'valid'), rows)}"
        )
    if recipe.scope.sequences is not None:
        text += (
            f"\n\nThe channels must be {', '.join(recipe.scope.sequences)}, in this order. No check can tell: each "
            "response lists `sequences` as unchecked, and with other sequences or another order the finding can be "
            "missed without a warning."
        )
    return text


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
    yield table(("images", "number", "refused", "marked", "refused by probability"), rows)
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
    share = recipe.calibration.prevalence
    assumed = "" if share is None else f" The probabilities assume that {share:.0%} of the images are positive."
    fitted = _sentence(recipe.calibration.fitted)
    yield f"Calibration: temperature {recipe.calibration.temperature:.4f}. {fitted}{assumed}"
    if recipe.second_pass is not None:
        yield (
            "Second pass: where the mean times the 90% quantile of the input's gray levels is below "
            f"{recipe.second_pass.darker_than:.4f}, a brightened copy of the image without its dark margins is "
            f"labelled too; with another label, the result is uncertain. {_sentence(recipe.second_pass.fitted)}"
        )


def _decision(recipe: Recipe) -> str:
    decision = recipe.decision
    if decision is None:
        return "Decision: the most probable label, without a threshold."
    if recipe.task == "segmentation":
        least = f"; masks of fewer than {decision.smallest} pixels are emptied" if decision.smallest > 1 else ""
        subject = "pixels with a probability"
    else:
        least, subject = "", "images with a calibrated probability"
    finding = recipe.display.finding if recipe.display else None
    shown = f" ({finding} on the page)" if finding not in (None, decision.positive) else ""
    return (
        f"Decision: {subject} of {decision.threshold:.4f} or more are `{decision.positive}`{shown}{least}. "
        f"{_sentence(decision.chosen)}"
    )


def _split(measured: Report, notes: DatasetNotes) -> Iterable[str]:
    split = measured.split
    sides = {"training": split.train, "validation" if measured.part == "validation" else "measured": split.validation}
    known = {name: side for name, side in sides.items() if side is not None}
    labels = list(dict.fromkeys(label for side in known.values() for label in side.labels))
    yield table(
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
    yield metrics_table(measured.validation)
    if measured.confusion:
        yield _confusion(measured.confusion)
    if measured.certainty and recipe.uncertainty:
        is_refitted = recipe.second_pass is not None and measured.part == "validation"
        refitted = (
            "threshold, prediction sets and limit of second passes" if is_refitted else "threshold and prediction sets"
        )
        yield (
            f"Certainty at level {recipe.uncertainty.level:g}, on the same images: temperature, {refitted} "
            "refitted without the patients or groups that they are measured on (five parts; the margin "
            "is that of all images). A result is uncertain unless its prediction set contains only its label. "
            f"{_margin(recipe)}Nothing is promised for other images."
        )
        yield metrics_table(measured.certainty)
    if measured.stress:
        yield "Robustness: the same images with artificial changes."
        names = list(next(iter(measured.stress.values())))
        changed = [(key, *(number(row.get(name)) for name in names)) for key, row in measured.stress.items()]
        yield table(("change", *map(metric_name, names)), changed)
    if measured.shortcuts:
        yield "Shortcuts: changes that leave the lungs unchanged. Aim: at most 0.05, and at most 0.10 of the relevance."
        yield metrics_table(measured.shortcuts)
    epoch = "" if measured.epoch is None else f" (epoch {measured.epoch})"
    if measured.training and measured.training != (measured.command,):
        yield "Weights trained by " + ", then ".join(f"`{command}`" for command in measured.training) + "."
    yield f"Created by `{measured.command}`{epoch}; SHA-256 of the weights `{measured.model.weights_sha256}`."


def _margin(recipe: Recipe) -> str:
    if recipe.uncertainty is None or recipe.decision is None or not recipe.uncertainty.margin:
        return ""
    low, high = band(recipe.decision.threshold, recipe.uncertainty.margin)
    return (
        f"From {low:.4f} to {high:.4f}, it contains both: re-encoding an image changed the log-odds by at most "
        f"{recipe.uncertainty.margin:.3f} in 95% of copies. "
    )


def _confusion(counts: Mapping[str, int] | Mapping[str, dict[str, int]]) -> str:
    rows = {label: row for label, row in counts.items() if isinstance(row, dict)}
    if not rows:
        text = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in counts.items())
        return f"Confusion at the threshold: {text}."
    return "Confusion matrix: a row per true label, a column per predicted label.\n\n" + table(
        ("", *rows), [(label, *(row.get(predicted, 0) for predicted in rows)) for label, row in rows.items()]
    )


def _sentence(text: str) -> str:
    return f"{text.strip().rstrip('.')}."


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4f}" for value in dict.fromkeys(values))
