"""The scope of a model: a section of its recipe, and the check of an image's statements against it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from handlers.errors import MissingAttributeError, OutOfScopeError
from handlers.scope.age import MAX_YEARS, Age
from handlers.scope.statement import ATTRIBUTES, Statement
from handlers.scope.vocabulary import OTHER

_ADVICE: Final = {
    "presentation": "Send the image that is FOR PRESENTATION.",
    "orientation": "Turn the image upright, the patient's right side at the left, or correct the attribute.",
    "polarity": "Invert the image, or correct the attributes: dense tissue must be bright.",
}
_DEFAULT_ADVICE: Final = "Send another image, or correct the attribute if it is wrong."


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class AgeRange(_Section):
    """Ages in years: at least `at_least`, and below `below`, if there is a limit."""

    at_least: Annotated[float, Field(ge=0, le=MAX_YEARS)] = 0
    below: Annotated[float, Field(gt=0, le=MAX_YEARS)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.below is not None and self.below <= self.at_least:
            raise ValueError(f"below has value {self.below:g}; it must be above at_least, {self.at_least:g}")
        return self

    def __contains__(self, age: object) -> bool:
        below = MAX_YEARS + 1 if self.below is None else self.below
        return isinstance(age, Age) and age.overlaps(Age(self.at_least, below))

    def __str__(self) -> str:
        if self.below is None:
            return f"patients of {self.at_least:g} years and older"
        if self.below == int(self.below):
            return f"patients of {self.at_least:g} to {self.below - 1:g} years"
        return f"patients of {self.at_least:g} to below {self.below:g} years"


class Scope(_Section):
    """What a model was made for. An attribute without a value is not restricted."""

    age: AgeRange | None = None
    species: tuple[Literal["human", "animal"], ...] | None = None
    modality: tuple[Annotated[str, Field(pattern=r"^[A-Z]{2,16}$")], ...] | None = None
    body_part: tuple[Annotated[str, Field(min_length=1)], ...] | None = None
    view: tuple[Annotated[str, Field(min_length=1)], ...] | None = None
    orientation: tuple[Annotated[str, Field(pattern=r"^[LRAPHF]{2}$")], ...] | None = None  # of rows and columns
    laterality: tuple[Literal["left", "right", "unpaired", "both"], ...] | None = None
    presentation: Literal["for presentation", "for processing"] | None = None
    polarity: Literal["normal", "inverted"] | None = None  # normal: as Pixel Intensity Relationship Sign demands
    # what the channels of an image are, in order; nothing that a file states can prove it, so it is always unchecked
    sequences: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=2)] | None = None
    # most by which an image may be enlarged to the network's input; known ones are those of the training images
    enlargement: Annotated[float, Field(ge=1)] = 2

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of the restricted attributes that an image or a client can state."""
        return tuple(name for name in ATTRIBUTES if getattr(self, name) is not None)

    def terms(self, attribute: str) -> tuple[str, ...]:
        """Return the allowed terms of an attribute other than the age, as text; empty if it is not restricted."""
        value = getattr(self, attribute)
        return () if value is None else (value,) if isinstance(value, str) else tuple(map(str, value))

    def allows(self, statement: Statement) -> bool:
        """Whether a statement is within the scope."""
        if statement.attribute == "age":
            return self.age is None or statement.value in self.age
        allowed = self.terms(statement.attribute)
        return not allowed or statement.value in allowed

    def describe(self, attribute: str) -> str:
        """Describe the allowed values of an attribute."""
        return str(self.age) if attribute == "age" else " or ".join(self.terms(attribute))


@dataclass(frozen=True)
class Report:
    """Attributes of a scope that an image states, attributes that are unknown, and what the client assures.

    `notes` are sentences about the image that a reader must know, although it is within the scope.
    """

    checked: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    assurances: Mapping[str, str | float] | None = None
    notes: tuple[str, ...] = ()

    @property
    def document(self) -> dict[str, Any]:
        """Keys of a prediction."""
        document: dict[str, Any] = {"checked": list(self.checked), "unchecked": list(self.unchecked)}
        if self.assurances:
            document["assurances"] = dict(self.assurances)
        return document | {"notes": list(self.notes)} if self.notes else document


@dataclass(frozen=True)
class Assurances:
    """What the client states about an image: values as they are returned to it, and as statements.

    The `prevalence`, among its patients, is not an attribute of the image, so it is not checked against a scope.
    """

    values: Mapping[str, str | float]
    statements: tuple[Statement, ...]
    prevalence: float | None = None


NO_ASSURANCES: Final = Assurances({}, ())


def check(
    scope: Scope,
    stated: Sequence[Statement],
    assurances: Assurances = NO_ASSURANCES,
    required: Iterable[str] = (),
) -> Report:
    """Check everything that the image and the client state.

    An attribute that is stated in several places must be in scope in each of them.

    Raises
    ------
    OutOfScopeError
        A statement is out of scope, or contradicts an assurance.
    MissingAttributeError
        A required attribute of the scope is unknown.
    """
    for statement in (*stated, *assurances.statements):
        if not scope.allows(statement):
            raise OutOfScopeError(_out_of_scope(scope, statement))
    for assured in assurances.statements:
        for statement in stated:
            if statement.attribute == assured.attribute and not statement.agrees(assured):
                raise OutOfScopeError(
                    f"The {ATTRIBUTES[assured.attribute]} in your assurances contradicts {statement.source}. "
                    "Correct either of them."
                )
    read = {item.attribute for item in stated if item.proves}
    known = read | {item.attribute for item in assurances.statements}
    unchecked = tuple(name for name in scope.attributes if name not in known)
    missing = [name for name in unchecked if name in set(required)]
    if missing:
        raise MissingAttributeError(_missing(missing))
    if scope.sequences is not None:
        unchecked = (*unchecked, "sequences")
    return Report(tuple(name for name in scope.attributes if name in read), unchecked, assurances.values)


def _out_of_scope(scope: Scope, statement: Statement) -> str:
    noun = ATTRIBUTES[statement.attribute]
    source = statement.source or "your assurances"
    advice = _ADVICE.get(statement.attribute, _DEFAULT_ADVICE)
    valid = scope.describe(statement.attribute)
    if isinstance(statement.value, Age):  # of a person: not repeated
        return f"The {noun} is out of scope ({source}); this model is for {valid}. {advice}"
    # Terms come from the vocabulary, never from the file.
    value = "another or unknown" if statement.value == OTHER else statement.value
    return f"The {noun} is {value} ({source}); this model accepts {valid}. {advice}"


def _missing(names: Sequence[str]) -> str:
    listed = ", ".join(f"{name} ({ATTRIBUTES[name]})" for name in names)
    example = ", ".join(f"{name}=..." for name in names)
    return (
        f"The image does not state what this server requires: {listed}. Send a DICOM object with these attributes, or "
        f'assure them: header "X-Assurances: {example}", or "assurances" in a JSON body.'
    )
