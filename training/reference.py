"""Measures the reference of monitoring: shares of labels, probabilities and detector percentiles on validation images.

`handlers.distribution` defines the bins, and a server counts with the same functions.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from handlers import distribution
from handlers.distribution import Bin
from handlers.domain import detector as detectors
from handlers.geometry import Geometry
from handlers.mask import segment
from handlers.recipe import Recipe
from handlers.threshold import decide
from training.datasets import Example, training_data
from training.detector.fit import load_network
from training.detector.observations import serve
from training.evaluators.evaluator import Logits
from training.settings import Settings

_log = logging.getLogger(__name__)


def of_predictions(recipe: Recipe, logits: Logits) -> dict[str, Any]:
    """Return the key `reference` of `metrics.json` with the labels and probabilities of images."""
    counted = (item for row in logits for item in distribution.of_prediction(recipe, _document(recipe, row)))
    return _section(recipe, counted)


def with_percentiles(
    reference: Mapping[str, Any], folder: Path, recipe: Recipe, config: Settings, data: Path
) -> dict[str, Any]:
    """Return a reference with the percentiles of the validation images, by the detector in a folder, if it has one."""
    others = {kind: values for kind, values in reference["shares"].items() if kind != "domain"}
    if recipe.detector is None:
        return {"shares": others}
    _log.info("measuring the percentiles of the validation images")
    examples = training_data.load_sides(recipe, config, data).validation
    section = _section(recipe, _percentiles(folder, recipe, examples))
    return {"shares": others | section["shares"], "detector_sha256": recipe.detector.sha256}


def _percentiles(folder: Path, recipe: Recipe, examples: Iterable[Example]) -> Iterator[Bin]:
    detector = detectors.load(folder, recipe)
    assert detector is not None
    network = load_network(recipe, folder, detector.section.layers) if detector.section.layers else None
    for example in examples:
        outputs, tensor = serve(network, recipe.input, example.read())
        yield distribution.of_percentile(detector.assess(outputs, tensor).percentile)


def _section(recipe: Recipe, counted: Iterable[Bin]) -> dict[str, Any]:
    return {"shares": distribution.shares(counted, distribution.bins(recipe))}


def _document(recipe: Recipe, row: Logits) -> dict[str, Any]:
    """Return the part of an image's prediction that has a bin."""
    if recipe.task == "classification":
        decision = decide(row, recipe)
        return {"label": decision.label, "probabilities": decision.probabilities}
    spec = recipe.input
    assert recipe.decision is not None
    is_positive = segment(row, recipe, Geometry.of(spec.width, spec.height, spec)).box is not None
    (negative,) = (label for label in recipe.labels if label != recipe.decision.positive)
    return {"label": recipe.decision.positive if is_positive else negative}
