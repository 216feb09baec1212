"""The model card: what a recipe and its figures say, for the person who has to trust them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from handlers.recipe import Recipe

_FIGURES: Final = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "f1": "F1",
    "brier": "Brier score",
    "ece": "expected calibration error",
}

_TEMPLATE: Final = """\
# {name} {version}

{title}. Answers with {labels}.

**No medical device.** It has been measured on one public data set and cleared by nobody. Use it for research and
engineering; let no decision about a person depend on it.

## What it is for, and what not

For: research and engineering on "{title}", one image at a time.
Not for: other projections, ages, scanners or questions than those of its data; images are refused where that can be
told (colour, contrast, size, DICOM attributes {dicom}), and answered where it cannot.

## Input and decision

{color} image of any size, resized to {height} x {width} ({resize}); of full scale, mean {mean} and deviation {std}.
Positive is `{positive}` from a calibrated probability of {threshold:.4f} on: {chosen}.
Temperature {temperature:.4f}: {fitted}.

## Data

{trained_on}

| side | films | patients | {label_names} |
|---|---|---|---|
| training | {train_films} | {train_patients} | {train_labels} |
| validation | {validation_films} | {validation_patients} | {validation_labels} |

Split by patient, seed {seed}, sha256 of the split `{split}`.

## Figures

On the validation side, which also chose epoch, temperature and threshold: expect less elsewhere.
In brackets: {interval}.

| figure | value |
|---|---|
{figures}

Confusion at the threshold: {confusion}.
Made by `{command}` (epoch {epoch}); weights sha256 `{weights}`.

## Limits

One hospital, children of one to five years, films that a second process already sorted by quality: adults, other
machines and other diseases are outside of it. The published test part of this data differs from its training part
(62 % against 74 % pneumonia), and models trained on it are known to call too many of those films pneumonia.
Several films of a patient are not independent; the intervals take them together.

## Licence

{licence}
"""


def card(recipe: Recipe, metrics: Mapping[str, Any]) -> str:
    """Write the card of a classifier.

    Parameters
    ----------
    metrics
        Its metrics.json.
    """
    assert recipe.decision is not None
    split, spec = metrics["split"], recipe.input
    return _TEMPLATE.format(
        name=recipe.name,
        version=recipe.version,
        title=recipe.title,
        labels=" or ".join(f"`{label}`" for label in recipe.labels),
        label_names=" / ".join(recipe.labels),
        dicom=", ".join(spec.dicom) or "none",
        color={"gray": "Gray", "rgb": "Colour"}[spec.color],
        height=spec.height,
        width=spec.width,
        resize=spec.resize,
        mean=_numbers(spec.mean),
        std=_numbers(spec.std),
        positive=recipe.decision.positive,
        threshold=recipe.decision.threshold,
        chosen=recipe.decision.chosen.strip().rstrip("."),
        temperature=recipe.calibration.temperature,
        fitted=recipe.calibration.fitted.strip().rstrip("."),
        trained_on=recipe.trained_on.strip(),
        licence=recipe.licence.strip(),
        seed=metrics["seed"],
        split=split["sha256"],
        interval=metrics["interval"],
        figures="\n".join(_rows(metrics["validation"])),
        confusion=", ".join(f"{key.replace('_', ' ')} {value}" for key, value in metrics["confusion"].items()),
        command=metrics["command"],
        epoch=metrics["epoch"],
        weights=metrics["model"]["weights_sha256"],
        **{f"{side}_films": split[side]["films"] for side in ("train", "validation")},
        **{f"{side}_patients": split[side]["patients"] for side in ("train", "validation")},
        **{
            f"{side}_labels": " / ".join(str(split[side]["labels"][label]) for label in recipe.labels)
            for side in ("train", "validation")
        },
    )


def _rows(figures: Mapping[str, Any]) -> list[str]:
    rows = []
    for key, name in _FIGURES.items():
        low, high = figures[key]["ci95"]
        rows.append(f"| {name} | {figures[key]['value']:.3f} ({low:.3f} to {high:.3f}) |")
    return rows


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4f}" for value in dict.fromkeys(values))
