"""Ages of patients, from DICOM's age strings (AS) and dates (DA) as vendors write them (PS3.5 section 6.2)."""

import re
from dataclasses import dataclass
from datetime import date
from typing import Final

from handlers.scope.vocabulary import fold

MAX_YEARS: Final = 130
"""Older patients do not exist: such values stand for an unknown age."""

_DAYS: Final = {"Y": 365.2425, "M": 365.2425 / 12, "W": 7.0, "D": 1.0}
_UNITS: Final = (
    ("D", re.compile(r"D[A-Z]*|TAGE?|JOURS?|GIORN[IO]")),
    ("W", re.compile(r"W[A-Z]*|SEM[A-Z]*|SETTIMAN[AE]")),
    ("M", re.compile(r"M[A-Z]*")),
    ("Y", re.compile(r"Y[A-Z]*|J|JAHRE?|A|ANS?|ANN[EI]ES|ANN[IO]|ANOS?|JAAR")),
)
"""Units of time in English, German, French, Spanish, Italian and Dutch, without accents."""
_AGE: Final = re.compile(r"([0-9]{1,4})\s*([A-Z]*)")
_PLACEHOLDER: Final = date(1901, 1, 1)
"""Dates of birth up to here stand for an unknown one, as written by devices and by de-identification."""
_DATE: Final = re.compile(r"([0-9]{4})[-./]?([0-9]{2})[-./]?([0-9]{2})(?:[0-9.+-]{0,20})?")
"""A date, with the separators of ACR-NEMA and others, or the beginning of a date and time (DT)."""


@dataclass(frozen=True)
class Age:
    """An age in years, known to be at least `at_least` and below `below`."""

    at_least: float
    below: float

    def overlaps(self, other: "Age") -> bool:
        """Whether both may be the age of one patient at one time."""
        return self.at_least < other.below and other.at_least < self.below


def parse(text: str) -> Age | None:
    """Parse an age string: `003Y`, `018M`, `3y`, `4 weeks`, `45 ANS`; a number without a unit is in years.

    Returns None for any other text, and for ages above `MAX_YEARS`.
    """
    match = _AGE.fullmatch(fold(text).strip(" \0"))
    unit = None if match is None else _unit(match[2])
    if match is None or unit is None:
        return None
    count = int(match[1])
    return _age(count * _DAYS[unit] / _DAYS["Y"], (count + 1) * _DAYS[unit] / _DAYS["Y"])


def _unit(word: str) -> str | None:
    return next((unit for unit, words in _UNITS if words.fullmatch(word or "Y")), None)


def from_years(years: float) -> Age | None:
    """Return the age of a patient of so many years: completed years if the number is whole."""
    return _age(years, years + (1 if years == int(years) else 1 / 12))


def between(birth: str, reference: str) -> Age | None:
    """Return the age at a date; None if either is not a date or a placeholder, or the age is impossible."""
    born, day = _date(birth), _date(reference)
    if born is None or day is None or born <= _PLACEHOLDER or day < born:
        return None
    birthdays = day.year - born.year - ((day.month, day.day) < (born.month, born.day))
    return _age(birthdays, birthdays + 1)


def _age(at_least: float, below: float) -> Age | None:
    return Age(at_least, below) if 0 <= at_least <= MAX_YEARS else None


def _date(text: str) -> date | None:
    match = _DATE.fullmatch(text.strip(" \0"))
    try:
        return None if match is None else date(*(int(part) for part in match.groups()))
    except ValueError:
        return None
