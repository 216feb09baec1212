"""Parses shares, durations and error rates of the command line.

Every function raises `InvalidCallError` with the option, its value and what it may be.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from pydantic import TypeAdapter, ValidationError

from radserve.errors import InvalidCallError
from radserve.schema.types import ModelName, Version

_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_OFF: Final = "off"
_NAME: Final[TypeAdapter[str]] = TypeAdapter(ModelName)
_VERSION: Final[TypeAdapter[str]] = TypeAdapter(Version)


def percentage(option: str, text: str) -> float:
    """Parse `5%`: above 0, at most 100, in steps of 0.1."""
    return _share(option, text, text)


def steps(option: str, text: str) -> tuple[float, ...]:
    """Parse `5%,25%,100%`: shares that increase and end with 100%."""
    shares = tuple(_share(option, text, word) for word in text.split(","))
    if any(later <= earlier for earlier, later in pairwise(shares)):
        raise _error(option, text, "each share must be larger than the one before it")
    if shares[-1] != 100:
        raise _error(option, text, "the last share must be 100%")
    return shares


def duration(option: str, text: str) -> float:
    """Parse `300ms`, `30s`, `5m` or `2h` as seconds."""
    match = re.fullmatch(r"([0-9.]+) ?(ms|s|m|h)", text.strip())
    number = _number(match[1]) if match else None
    if match is None or not number:
        raise _error(option, text, "write a time above 0 with its unit, such as 300ms, 30s, 5m or 2h")
    return number * _UNITS[match[2]]


def rate(option: str, text: str) -> float:
    """Parse a share of requests, `1%` or `0.01`, as a fraction."""
    percent = text.strip().endswith("%")
    number = _number(text.strip().removesuffix("%"))
    # 1 without a sign is ambiguous: it may be meant as 1 %.
    if number is None or number > (100 if percent else 0.999):
        raise _error(option, text, "write a share of the requests, such as 1% or 0.01")
    return number / 100 if percent else number


def factor(option: str, text: str) -> float | None:
    """Parse a factor of at least 1, or `off`."""
    if text.strip() == _OFF:
        return None
    number = _number(text.strip())
    if number is None or number < 1:
        raise _error(option, text, f"write a factor of 1 or more, such as 2, or '{_OFF}'")
    return number


def name(text: str) -> str:
    """Validate the name of a model."""
    return _validate("NAME", text, _NAME, "use lower-case letters, digits and '-'")


def version(text: str) -> str:
    """Validate a version."""
    return _validate("VERSION", text, _VERSION, "use numbers such as 1.0.0")


def _share(option: str, text: str, part: str) -> float:
    number = _number(part.strip().removesuffix("%")) if part.strip().endswith("%") else None
    if number is None or not 0 < number <= 100:
        raise _error(option, text, "write a percentage above 0, such as 5%")
    if round(number, 1) != number:
        raise _error(option, text, "shares go in steps of 0.1%")
    return number


def _validate(argument: str, text: str, adapter: TypeAdapter[str], rule: str) -> str:
    try:
        return adapter.validate_python(text)
    except ValidationError:
        raise _error(argument, text, rule) from None


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text.strip()) else None


def _error(option: str, text: str, rule: str) -> InvalidCallError:
    return InvalidCallError(f"{option} has value {text!r}; {rule}.")
