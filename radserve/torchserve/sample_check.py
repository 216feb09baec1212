"""The answer to an archive's sample, held against the one that was stored when the archive was built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

TOLERANCE: Final = 0.01
"""How far a figure may lie from the stored one; as in `handlers.task`, which needs torch."""


def difference(answer: Mapping[str, Any], stored: Mapping[str, Any]) -> str | None:
    """Say where an answer differs from the stored summary (`handlers.task.Task.summary`), or None.

    Parameters
    ----------
    answer
        The whole answer of a server.
    stored
        Label, and probabilities or the fraction of the image that is marked.
    """
    found = _figures(answer)
    for name, wanted in _figures(stored).items():
        value = found.get(name)
        same = value == wanted if isinstance(wanted, str) else _near(value, wanted)
        if not same:
            return f"{name} is {_words(value)}, and was {_words(wanted)} when it was built"
    return None


def _figures(document: Mapping[str, Any]) -> dict[str, str | float]:
    return dict(_named(document))


def _named(document: Mapping[str, Any]) -> Iterator[tuple[str, str | float]]:
    if "label" in document:
        yield "label", document["label"]
    for label, probability in document.get("probabilities", {}).items():
        yield f"probability of {label}", probability
    fraction = document.get("fraction", document.get("area", {}).get("fraction"))
    if fraction is not None:
        yield "fraction", fraction


def _near(value: object, wanted: float) -> bool:
    return isinstance(value, int | float) and abs(value - wanted) <= TOLERANCE


def _words(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "missing" if value is None else str(value)
