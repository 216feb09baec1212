"""Formats the errors of pydantic for error messages."""

from collections.abc import Container, Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError

_MAX_VALUE: Final = 80  # characters of a value in a message


def describe(error: ValidationError, *, values: bool = True, omit: Container[int | str] = ("[key]",)) -> str:
    """Describe every problem: `key 'steps.0' has value 0: Input should be greater than 0; key 'version' is missing`.

    Rejected values are shown unless they may be secrets. Parts of pydantic's locations that are not keys of the
    document, such as tags of unions, can be omitted.
    """
    problems = error.errors(include_url=False, include_context=False)
    return "; ".join(_problem(item, omit, values=values) for item in problems)


def _problem(item: Mapping[str, Any], omit: Container[int | str], *, values: bool) -> str:
    key = ".".join(str(part) for part in item["loc"] if part not in omit)
    reason = str(item["msg"]).removeprefix("Value error, ")
    if not key:
        return reason
    if item["type"] == "missing":
        return f"key '{key}' is missing"
    value = _shortened(item["input"]) if values else ""
    if item["type"] == "extra_forbidden":
        return f"unknown key '{key}'" + (f" (its value is {value})" if value else "")
    # A validator of a whole object rejects it for the reason given; printing the object would hide that.
    if not value or (item["type"] == "value_error" and isinstance(item["input"], Mapping | BaseModel)):
        return f"key '{key}': {reason}"
    return f"key '{key}' has value {value}: {reason}"


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_VALUE else text[: _MAX_VALUE - 3] + "..."
