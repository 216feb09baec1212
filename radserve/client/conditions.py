"""Conditions of a prediction: what the client states about its images, and what the server should assume."""

from collections.abc import Mapping
from typing import TypedDict, get_args

from radserve.errors import InvalidCallError
from radserve.schema.domain import Repair

Assurances = Mapping[str, str | float]


class Conditions(TypedDict, total=False):
    """Keyword arguments of every prediction; all are optional.

    Attributes
    ----------
    assurances
        What an image does not state itself, such as `{"age": 5, "view": "PA"}`; the server checks it like attributes of
        DICOM.
    prevalence
        Share of positive images to assume in the probabilities, from 0 to 1; it does not change `positive`.
    repair
        Rotation or inversion that the server applies before the analysis; result and pictures are of the repaired
        image.
    """

    assurances: Assurances | None
    prevalence: float | None
    repair: Repair | None


def require_known(conditions: Conditions) -> None:
    """Raise TypeError for a keyword argument that no prediction has, as Python does for a function."""
    unknown = [name for name in conditions if name not in Conditions.__annotations__]
    if unknown:
        known = ", ".join(Conditions.__annotations__)
        raise TypeError(f"unexpected keyword argument {unknown[0]!r}; the conditions are {known}")


def headers(conditions: Conditions) -> dict[str, str]:
    """Return the header field of assurances and prevalence, if there are any; raises InvalidCallError."""
    stated = dict(conditions.get("assurances") or {})
    prevalence = conditions.get("prevalence")
    if prevalence is not None:
        stated["prevalence"] = f"{prevalence:.6f}"
    if not stated:
        return {}
    text = ", ".join(f"{name}={value}" for name, value in stated.items())
    if not (text.isascii() and text.isprintable()) or text.count("=") != len(stated):
        raise InvalidCallError("assurances have invalid characters; use names and values such as age and 5.")
    return {"X-Assurances": text}


def query(conditions: Conditions) -> dict[str, str]:
    """Return the query of a repair, if there is one; raises InvalidCallError."""
    repair = conditions.get("repair")
    if repair is None:
        return {}
    if repair not in get_args(Repair):
        raise InvalidCallError(f"repair has value {repair!r}; use {', '.join(get_args(Repair))}, or None.")
    return {"repair": repair}
