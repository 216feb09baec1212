"""Parses option values: shares, durations, rates, names and versions; InvalidCallError names valid ones."""

import re
from itertools import pairwise
from typing import Final

from pydantic import TypeAdapter, ValidationError

from radserve.errors import InvalidCallError
from radserve.schema.types import ModelName, Sha256, Version

_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_OFF: Final = "off"
_NAME: Final[TypeAdapter[str]] = TypeAdapter(ModelName)
_VERSION: Final[TypeAdapter[str]] = TypeAdapter(Version)
_SHA256: Final[TypeAdapter[str]] = TypeAdapter(Sha256)


def percentage(option: str, text: str) -> float:
    """Parse a percentage above 0, such as `5%`."""
    return _share(option, text, text)


def steps(option: str, text: str) -> tuple[float, ...]:
    """Parse increasing shares that end with 100%, such as `5%,25%,100%`."""
    shares = tuple(_share(option, text, part) for part in text.split(","))
    if any(later <= earlier for earlier, later in pairwise(shares)):
        raise _invalid(option, text, "each share must be larger than the one before it")
    if shares[-1] != 100:
        raise _invalid(option, text, "the last share must be 100%")
    return shares


def duration(option: str, text: str) -> float:
    """Parse `300ms`, `30s`, `5m` or `2h` into seconds."""
    match = re.fullmatch(r"([0-9.]+) ?(ms|s|m|h)", text.strip())
    number = _number(match[1]) if match else None
    if match is None or not number:
        raise _invalid(option, text, "use a duration above 0 with its unit, such as 300ms, 30s, 5m or 2h")
    return number * _UNITS[match[2]]


def rate(option: str, text: str) -> float:
    """Parse a part of the requests, `1%` or `0.01`, into a fraction."""
    percent = text.strip().endswith("%")
    number = _number(text.strip().removesuffix("%"))
    # 1 without a percent sign is ambiguous: 1% or all.
    if number is None or number > (100 if percent else 0.999):
        raise _invalid(option, text, "use a part of the requests, such as 1% or 0.01")
    return number / 100 if percent else number


def factor(option: str, text: str) -> float | None:
    """Parse a factor of 1 or more, or `off`."""
    if text.strip() == _OFF:
        return None
    number = _number(text.strip())
    if number is None or number < 1:
        raise _invalid(option, text, f"use a factor of 1 or more, such as 2, or '{_OFF}'")
    return number


def index(option: str, text: str) -> float | None:
    """Parse a number above 0, or `off`."""
    if text.strip() == _OFF:
        return None
    number = _number(text.strip())
    if not number:
        raise _invalid(option, text, f"use a number above 0, such as 0.25, or '{_OFF}'")
    return number


def name(text: str) -> str:
    """Check the name of a model."""
    return _checked("NAME", text, _NAME, "names have lower-case letters, digits and '-'")


def version(text: str) -> str:
    """Check a version."""
    return _checked("VERSION", text, _VERSION, "versions are numbers such as 1.0.0")


def sha256(text: str | None) -> str | None:
    """Check an optional digest."""
    return None if text is None else _checked("--head", text, _SHA256, "use 64 hexadecimal digits")


def _share(option: str, text: str, part: str) -> float:
    number = _number(part.strip().removesuffix("%")) if part.strip().endswith("%") else None
    if number is None or not 0 < number <= 100:
        raise _invalid(option, text, "use a percentage above 0, such as 5%")
    if round(number, 1) != number:
        raise _invalid(option, text, "shares are multiples of 0.1%")
    return number


def _checked(argument: str, text: str, kind: TypeAdapter[str], rule: str) -> str:
    try:
        return kind.validate_python(text)
    except ValidationError:
        raise _invalid(argument, text, rule) from None


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text.strip()) else None


def _invalid(option: str, text: str, rule: str) -> InvalidCallError:
    return InvalidCallError(f"{option} has value {text!r}; {rule}.")
