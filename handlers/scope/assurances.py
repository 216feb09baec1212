"""Reads what the client states about an image, from a header or from JSON: `age=5, view=PA`."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from handlers.errors import BadRequestError
from handlers.scope import age, vocabulary
from handlers.scope.age import Age
from handlers.scope.scope import Assurances
from handlers.scope.statement import ATTRIBUTES, Statement

HEADER: Final = "x-assurances"
PREVALENCE: Final = "prevalence"
_MAX_HEADER: Final = 1000
_MAX_VALUE: Final = 64
_MIN_PREVALENCE: Final = 1e-6
_USAGE: Final = f"Assure any of {', '.join(ATTRIBUTES)} or prevalence, as in age=5, view=PA."


def _one(terms: set[str]) -> str | None:
    return next(iter(terms)) if len(terms) == 1 else None


def _species(text: str) -> str | None:
    return _one({vocabulary.SPECIES[word] for word in vocabulary.words(text) if word in vocabulary.SPECIES})


def _polarity(text: str) -> str | None:
    return text.lower() if text.lower() in ("normal", "inverted") else None


def _modality(text: str) -> str | None:
    code = vocabulary.modality(text)
    return None if code == vocabulary.OTHER else code


def _orientation(text: str) -> str | None:
    letters = [letter for letter in text if letter.isalpha()]
    return vocabulary.orientation(letters) if vocabulary.plane("".join(letters).upper()) else None


_TERMS: Final[Mapping[str, tuple[Callable[[str], str | None], str]]] = {
    "species": (_species, "human or animal"),
    "modality": (_modality, "a DICOM modality, such as DX or MR"),
    "body_part": (lambda text: _one(vocabulary.body_parts(text)), "one body part, such as chest or head"),
    "view": (lambda text: _one(vocabulary.views(text)), "one view, such as PA, AP, lateral or axial"),
    "orientation": (_orientation, "the directions of rows and columns, such as LF"),
    "laterality": (vocabulary.laterality, "left, right, unpaired or both"),
    "presentation": (vocabulary.presentation, "for presentation or for processing"),
    "polarity": (_polarity, "normal or inverted"),
}
"""Parser of each attribute other than the age, and its valid values in words."""


def from_header(text: str) -> Assurances:
    """Parse the header `X-Assurances`; raises `BadRequestError`."""
    if len(text) > _MAX_HEADER:
        raise BadRequestError(f"X-Assurances has {len(text)} characters; the limit is {_MAX_HEADER}. {_USAGE}")
    values: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise BadRequestError(f"X-Assurances must be a list of NAME=VALUE. {_USAGE}")
        if name == PREVALENCE and name in values:
            raise BadRequestError("The prevalence is stated twice, by the query or X-Assurances; send it once.")
        if name in values:
            raise BadRequestError(f"X-Assurances has an attribute twice. {_USAGE}")
        values[name] = value
    return from_json(values)


def from_json(document: Any) -> Assurances:
    """Validate an object of assurances; raises `BadRequestError`."""
    if not isinstance(document, Mapping):
        raise BadRequestError(f"'assurances' must be an object. {_USAGE}")
    if not set(document) <= {*ATTRIBUTES, PREVALENCE}:
        raise BadRequestError(f"'assurances' has an unknown attribute. {_USAGE}")
    prevalence = _prevalence(document[PREVALENCE]) if PREVALENCE in document else None
    statements = {name: _statement(name, value) for name, value in document.items() if name != PREVALENCE}
    values = {name: _shown(document[name], statement) for name, statement in statements.items()}
    if prevalence is not None:
        values[PREVALENCE] = prevalence
    return Assurances(values, tuple(statements.values()), prevalence)


def merge(first: Assurances, second: Assurances) -> Assurances:
    """Combine the assurances of a request and of one of its images; raises `BadRequestError` if they contradict."""
    if not first.values or not second.values:
        return first if first.values else second
    for one in first.statements:
        if any(one.attribute == other.attribute and not one.agrees(other) for other in second.statements):
            raise BadRequestError(
                f"The assurances of {one.attribute} differ between the request and the image; send one."
            )
    shares = [share for share in (first.prevalence, second.prevalence) if share is not None]
    if len(set(shares)) > 1:
        raise BadRequestError("The prevalence differs between the request and the image; send one.")
    statements = dict.fromkeys((*first.statements, *second.statements))
    return Assurances({**first.values, **second.values}, tuple(statements), next(iter(shares), None))


def _shown(value: Any, statement: Statement) -> str | float:
    if isinstance(statement.value, str):
        return statement.value
    # A number of years is returned as such, an age string (018M) in the form in which it was sent.
    text = str(value).strip().upper()
    if not _is_number(text):
        return text
    years = float(text)
    return int(years) if years.is_integer() else years


def _statement(name: str, value: Any) -> Statement:
    text = str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    if not text or len(text) > _MAX_VALUE:
        raise BadRequestError(f"The assurance of {name} must be a short text or a number. {_USAGE}")
    if name == "age":
        years = _age(text)
        if years is None:
            raise BadRequestError(
                f"The assured age is invalid; send years from 0 to {age.MAX_YEARS} (5, 1.5), or a DICOM age (018M)."
            )
        return Statement(name, years)
    parse, valid = _TERMS[name]
    term = parse(text)
    if term is None:
        raise BadRequestError(f"The assurance of {name} is invalid; send {valid}.")
    return Statement(name, term)


def _prevalence(value: Any) -> float:
    share = value if isinstance(value, float) else 0.0
    if isinstance(value, str) and _is_number(text := value.strip()) and len(text) <= _MAX_VALUE:
        share = float(text)
    if not _MIN_PREVALENCE <= share <= 1 - _MIN_PREVALENCE:
        raise BadRequestError(
            f"The prevalence must be a share from {_MIN_PREVALENCE:f} to {1 - _MIN_PREVALENCE:f}, such as 0.1. Send it "
            "once: as the query prevalence, in X-Assurances, or in the key 'assurances'."
        )
    return share


def _age(text: str) -> Age | None:
    return age.from_years(float(text)) if _is_number(text) else age.parse(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.replace(".", "", 1).isdigit()
