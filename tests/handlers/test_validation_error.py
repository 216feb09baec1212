"""Tests of handlers.validation_error."""

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from handlers.validation_error import describe


class Range(BaseModel):
    low: int = 0
    high: int = 1

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if self.low > self.high:
            raise ValueError("low exceeds high")
        return self


class Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=100)
    range: Range = Range()
    counts: dict[int, int] = {}


def described(document: Any, *, values: bool = True) -> str:
    with pytest.raises(ValidationError) as caught:
        Document.model_validate(document)
    return describe(caught.value, values=values)


@pytest.mark.parametrize(
    ("document", "description"),
    [
        ({}, "key 'name' is missing"),
        ({"name": "a", "size": 3}, "unknown key 'size' (its value is 3)"),
        ({"name": 3}, "key 'name' has value 3: Input should be a valid string"),
        ({"name": "a", "range": {"low": 2}}, "key 'range': low exceeds high"),
        (
            {"name": "a", "range": []},
            "key 'range' has value []: Input should be a valid dictionary or instance of Range",
        ),
        (
            {"name": "a", "counts": {"x": 1}},
            "key 'counts.x' has value 'x': Input should be a valid integer, unable to parse string as an integer",
        ),
        ([], "Input should be a valid dictionary or instance of Document"),
    ],
)
def test_describe_names_key_value_and_reason(document: Any, description: str) -> None:
    assert described(document) == description


def test_describe_lists_every_problem() -> None:
    assert described({"size": 1}) == "key 'name' is missing; unknown key 'size' (its value is 1)"


def test_describe_shortens_long_values() -> None:
    description = described({"name": "x" * 101})
    assert description.startswith("key 'name' has value 'xxx")
    assert "...: String should have at most 100 characters" in description
    assert len(description) < 180


def test_describe_hides_values_on_request() -> None:
    assert "secret" not in described({"name": ["secret"], "size": "secret"}, values=False)
    assert described({"name": 1, "size": 2}, values=False) == (
        "key 'name': Input should be a valid string; unknown key 'size'"
    )


def test_describe_formats_invalid_json() -> None:
    with pytest.raises(ValidationError) as caught:
        Document.model_validate_json(b"{")
    assert describe(caught.value).startswith("Invalid JSON: EOF")
