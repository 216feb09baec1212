from typing import Any

import pytest

from handlers.errors import BadRequestError
from handlers.scope import assurances
from handlers.scope.age import Age

FULL = (
    "age=5, species=Human, modality=dr, body_part=Thorax, view=p.a., orientation=L\\F, laterality=U, "
    "presentation=FOR PRESENTATION, polarity=Normal"
)


def test_every_attribute_can_be_assured() -> None:
    parsed = assurances.from_header(FULL)
    assert parsed.values == {
        "age": 5,
        "species": "human",
        "modality": "DX",
        "body_part": "chest",
        "view": "PA",
        "orientation": "LF",
        "laterality": "unpaired",
        "presentation": "for presentation",
        "polarity": "normal",
    }
    assert [item.value for item in parsed.statements] == [Age(5, 6), *list(parsed.values.values())[1:]]


@pytest.mark.parametrize(
    ("document", "values"),
    [
        ({"age": 5, "view": "PA"}, {"age": 5, "view": "PA"}),
        ({"age": 1.5}, {"age": 1.5}),
        ({"age": "018m"}, {"age": "018M"}),
        ({"age": "3"}, {"age": 3}),
        ({"prevalence": 0.00005}, {"prevalence": 0.00005}),
        ({}, {}),
    ],
)
def test_json(document: dict[str, Any], values: dict[str, Any]) -> None:
    assert assurances.from_json(document).values == values


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "must be an object"),
        ("age=5", "must be an object"),
        ({"SECRET": 1}, "unknown attribute. Assure any of age, species"),
        ({"age": -1}, "assured age is invalid; send years from 0 to 130"),
        ({"age": 131}, "assured age is invalid"),
        ({"age": True}, "short text or a number"),
        ({"age": None}, "short text or a number"),
        ({"age": [5]}, "short text or a number"),
        ({"age": "SECRET"}, "assured age is invalid"),
        ({"age": float("nan")}, "assured age is invalid"),
        ({"age": 10**70}, "short text or a number"),
        ({"view": "SECRET"}, "assurance of view is invalid; send one view, such as PA"),
        ({"view": "PA and lateral"}, "assurance of view is invalid"),
        ({"view": "PA" * 40}, "short text"),
        ({"body_part": "SECRET"}, "one body part, such as chest or head"),
        ({"modality": "SECRET"}, "a DICOM modality"),
        ({"modality": "OT"}, "a DICOM modality"),
        ({"species": "SECRET"}, "human or animal"),
        ({"orientation": "XX"}, "directions of rows and columns"),
        ({"orientation": "LR"}, "directions of rows and columns"),
        ({"laterality": "SECRET"}, "left, right, unpaired or both"),
        ({"presentation": "SECRET"}, "for presentation or for processing"),
        ({"polarity": "SECRET"}, "normal or inverted"),
    ],
)
def test_invalid_values_are_rejected_and_not_repeated(document: Any, message: str) -> None:
    with pytest.raises(BadRequestError, match=message) as error:
        assurances.from_json(document)
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("age", "list of NAME=VALUE"),
        ("age=5, age=5", "an attribute twice"),
        ("age=5," * 200, "has 1200 characters; the limit is 1000"),
        ("age=", "short text or a number"),
    ],
)
def test_invalid_headers(text: str, message: str) -> None:
    with pytest.raises(BadRequestError, match=message):
        assurances.from_header(text)


def test_an_empty_header_assures_nothing() -> None:
    assert assurances.from_header(" , ").values == {}


def test_merge() -> None:
    first, second = assurances.from_header("age=5, view=PA"), assurances.from_header("age=5, species=human")
    assert assurances.merge(first, second).values == {"age": 5, "view": "PA", "species": "human"}
    with pytest.raises(BadRequestError, match="assurances of age differ"):
        assurances.merge(first, assurances.from_header("age=4"))


@pytest.mark.parametrize(
    ("first", "second"), [("age=5", "age=005Y"), ("view=AP", "view=frontal"), ("view=lateral", "view=sagittal")]
)
def test_assurances_that_agree_are_merged(first: str, second: str) -> None:
    merged = assurances.merge(assurances.from_header(first), assurances.from_header(second))
    assert merged.values == assurances.from_header(second).values


def test_a_prevalence_is_not_a_statement_about_the_image() -> None:
    parsed = assurances.from_header("prevalence=0.1, age=5")
    assert (parsed.prevalence, parsed.values) == (0.1, {"age": 5, "prevalence": 0.1})
    assert [statement.attribute for statement in parsed.statements] == ["age"]
    assert assurances.from_json({"prevalence": 0.1}).prevalence == 0.1


@pytest.mark.parametrize("value", [0, 1, 1.0, -0.1, "10%", "1e-3", True, None, "0.0000001", "."])
def test_a_prevalence_is_a_share_above_zero_and_below_one(value: Any) -> None:
    with pytest.raises(BadRequestError, match=r"must be a share from 0\.000001 to 0\.999999, such as 0\.1"):
        assurances.from_json({"prevalence": value})


def test_a_prevalence_of_query_and_header_names_both() -> None:
    with pytest.raises(BadRequestError, match="stated twice, by the query or X-Assurances"):
        assurances.from_header("prevalence=0.1, prevalence=0.1")


def test_the_prevalence_of_an_image_must_not_contradict_that_of_the_request() -> None:
    tenth, none = assurances.from_json({"prevalence": 0.1}), assurances.from_json({"age": 5})
    assert assurances.merge(none, tenth).prevalence == assurances.merge(tenth, tenth).prevalence == 0.1
    with pytest.raises(BadRequestError, match="prevalence differs"):
        assurances.merge(tenth, assurances.from_json({"prevalence": 0.2}))
