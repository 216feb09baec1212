"""Which rules match which image, and the words that say why."""

from typing import Any

import pytest
from pydicom.dataset import Dataset

from radserve.dicom.source import quiet
from radserve.pacs import header as headers
from radserve.pacs import rules
from radserve.pacs.settings import Rule

CHILDREN = Rule.model_validate(
    {
        "name": "children",
        "model": "chest-xray-cnn",
        "when": {"Modality": ["DX", "CR"], "BodyPartExamined": "chest", "ViewPosition": ["PA", ""]},
        "age": {"at_least": 1, "below": 18},
    }
)


def header(**attributes: Any) -> Dataset:
    """Return the header of a film that CHILDREN matches; None removes an attribute."""
    values = {"Modality": "DX", "BodyPartExamined": "CHEST", "PatientAge": "005Y", "Rows": 4} | attributes
    dataset = Dataset()
    with quiet():
        for keyword, value in values.items():
            if value is not None:
                setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"Modality": "US"}, "Modality is US, not DX or CR"),
        ({"BodyPartExamined": None}, "BodyPartExamined is absent, not chest"),
        ({"ViewPosition": "LL"}, "ViewPosition is LL, not PA or absent"),
        ({"PatientAge": "018Y"}, "age 18.0 is not below 18"),
        ({"PatientAge": "011M"}, "age 0.9 is not at least 1"),
        ({"PatientAge": None}, "age is unknown"),
        ({"PatientAge": None, "PatientBirthDate": "19800101", "StudyDate": "20200101"}, "age 40.0 is not below 18"),
    ],
)
def test_an_image_that_breaks_a_condition_is_not_matched_and_the_text_says_why(
    changes: dict[str, Any], why: str
) -> None:
    decision = rules.decide([CHILDREN], header(**changes))
    assert decision.matches == ()
    assert str(decision) == f"Rule 'children' does not match: {why}."


def test_a_reason_does_not_quote_who_the_patient_is() -> None:
    when = {"PatientName": ("Doe^Jane",), "AccessionNumber": ("A1",), "PatientSex": ("F",)}
    rule = Rule(name="one", model="chest-xray-cnn", when=when)
    reason = rules.decide([rule], header(PatientName="Roe^John", AccessionNumber="A2", PatientSex="M")).reason
    assert reason == (
        "Rule 'one' does not match: PatientName does not match; AccessionNumber does not match; PatientSex is M, not F."
    )


@pytest.mark.parametrize(
    "changes",
    [{}, {"BodyPartExamined": "Chest "}, {"ViewPosition": "pa"}, {"PatientAge": "060W"}, {"PatientAge": "500D"}],
)
def test_case_and_spaces_do_not_matter(changes: dict[str, Any]) -> None:
    assert rules.decide([CHILDREN], header(**changes)).matches == (CHILDREN,)


def test_a_name_is_one_value() -> None:
    rule = Rule.model_validate({"name": "test patients", "model": "glioma", "when": {"PatientName": "Phantom^A"}})
    assert rules.decide([rule], header(PatientName="Phantom^A")).matches == (rule,)


def test_a_match_is_explained() -> None:
    text = str(rules.decide([CHILDREN], header()))
    assert text == (
        "Rule 'children' matches, model chest-xray-cnn: Modality is DX; BodyPartExamined is CHEST; "
        "ViewPosition is absent; age 5.0 is at least 1 and below 18."
    )


def test_two_rules_with_one_model_give_one_job_and_two_models_give_two() -> None:
    same, other = Rule(name="same", model="chest-xray-cnn", when={}), Rule(name="other", model="glioma", when={})
    assert rules.decide([CHILDREN, same, other], header()).matches == (CHILDREN, other)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"Manufacturer": "RadServe"}, "RadServe made it"),
        ({"Modality": "SEG"}, "it is not an image"),
        ({"Modality": "SR", "Rows": None}, "it is not an image"),
    ],
)
def test_results_are_never_analysed(changes: dict[str, Any], why: str) -> None:
    anything = Rule(name="all", model="chest-xray-cnn", when={})
    assert rules.decide([anything], header(**changes)) == rules.Decision(why, ())


def test_a_damaged_age_is_unknown() -> None:
    broken = header(PatientAge=None, PatientBirthDate="20209999", StudyDate="20200101")
    assert headers.age(broken) is None
