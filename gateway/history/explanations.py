"""Finds the prediction that an explanation belongs to, so that its heat map adds no result."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from gateway.history import Result
from radserve.schema.types import ROUNDING

Stored = tuple[Result, Mapping[str, Any]]
"""A result and its prediction document."""

MAX_AGE: Final = timedelta(hours=1)
"""Longest time between a prediction and its explanation."""
MAX_PREDICTIONS: Final = 100
"""Predictions of an image, newest first, that an explanation is compared with."""
_GROUP: Final = ("group_id", "group_index", "group_size")
_INDIVIDUAL: Final = {"id", "time", "verb", "filename", "request_id", "probability", "explained", *_GROUP}
"""Fields that may differ between a prediction and its explanation; probabilities by rounding."""
_INEXACT: Final = frozenset({"explanation", "probability", "probabilities", "domain"})
"""Keys of documents that differ, or may differ by rounding; the status of the domain is compared as a field."""


def is_explanation_of(explanation: Result, prediction: Result) -> bool:
    """Return whether an explanation has the same fields as a prediction within the hour before."""
    age = explanation.time - prediction.time
    return (
        prediction.verb == "predictions"
        and explanation.image_sha256 == prediction.image_sha256  # rejects most, faster than the comparison of all
        and timedelta() <= age <= MAX_AGE
        and abs((explanation.probability or 0) - (prediction.probability or 0)) <= ROUNDING
        and explanation.model_dump(exclude=_INDIVIDUAL) == prediction.model_dump(exclude=_INDIVIDUAL)
    )


def assign(explanations: Iterable[Stored], predictions: Sequence[Stored]) -> dict[str, Stored]:
    """Return predictions with their explanations, by the ids of the explanations; those without one are absent.

    Both must be equal, including what the client assured. Of several equal predictions, newest first, one without a
    heat map is chosen: if an image was sent twice, both results get theirs.
    """
    current = {result.id: (result, document) for result, document in predictions}
    ids: dict[str, str] = {}
    for explanation, explained in explanations:
        equal = [
            (result, document)
            for result, document in current.values()
            if is_explanation_of(explanation, result) and _exact(explained) == _exact(document)
        ]
        if equal:
            result, document = min(equal, key=lambda prediction: prediction[0].explained)
            heat_map = {"explanation": explained["explanation"]} if "explanation" in explained else {}
            current[result.id] = (result.model_copy(update={"explained": True}), {**document, **heat_map})
            ids[explanation.id] = result.id
    return {explanation_id: current[result_id] for explanation_id, result_id in ids.items()}


def results_of(explanations: Sequence[Result], assigned: Mapping[str, Stored]) -> list[Result]:
    """Return the explanations without a prediction, which become results. They are a group only if all of them do."""
    alone: dict[str, None] = dict.fromkeys(_GROUP) if assigned else {}
    return [result.model_copy(update=alone) for result in explanations if result.id not in assigned]


def _exact(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in _INEXACT}
