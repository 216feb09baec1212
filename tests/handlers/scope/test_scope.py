import pytest
from pydantic import ValidationError

from handlers.errors import MissingAttributeError, OutOfScopeError, ScopeError
from handlers.scope import assurances, requirements
from handlers.scope.age import Age
from handlers.scope.scope import AgeRange, Report, Scope, check
from handlers.scope.statement import ATTRIBUTES, Statement

CHILDREN = Scope(age=AgeRange(at_least=1, below=6), view=("PA", "AP", "frontal"), body_part=("chest",))


def test_what_nobody_states_is_unchecked() -> None:
    report = check(CHILDREN, [Statement("body_part", "chest", "BodyPartExamined"), Statement("modality", "CT")])
    assert report == Report(("body_part",), ("age", "view"), {})
    assert report.document == {"checked": ["body_part"], "unchecked": ["age", "view"]}
    assert check(Scope(), [Statement("modality", "CT", "Modality")]).document == {"checked": [], "unchecked": []}


def test_no_statement_proves_sequences_and_their_order() -> None:
    scope = Scope(modality=("MR",), sequences=("FLAIR", "T1", "T2"))
    stated = [Statement("modality", "MR", "Modality")]
    assert check(scope, stated).document == {"checked": ["modality"], "unchecked": ["sequences"]}
    assert scope.attributes == ("modality",)  # what a client can assure and an operator can require


@pytest.mark.parametrize(
    ("age", "accepted"),
    [(Age(1, 2), True), (Age(5, 6), True), (Age(6, 7), False), (Age(0, 1), False), (Age(0.99, 1.02), True)],
)
def test_ages(age: Age, accepted: bool) -> None:
    statement = Statement("age", age, "PatientAge")
    if accepted:
        assert check(CHILDREN, [statement]).checked == ("age",)
        return
    with pytest.raises(
        OutOfScopeError,
        match=r"age of the patient is out of scope \(PatientAge\); this model is for patients of 1 to 5 years",
    ) as error:
        check(CHILDREN, [statement])
    assert str(age.at_least) not in str(error.value).replace("1 to 5", "")


def test_every_statement_must_be_in_scope() -> None:
    good, bad = (
        Statement("age", Age(4, 5), "PatientAge"),
        Statement("age", Age(61, 62), "PatientBirthDate and StudyDate"),
    )
    with pytest.raises(OutOfScopeError, match="PatientBirthDate and StudyDate"):
        check(CHILDREN, [good, bad])


def test_unknown_values_are_not_repeated() -> None:
    with pytest.raises(
        OutOfScopeError, match=r"body part is another or unknown \(BodyPartExamined\); this model accepts chest"
    ):
        check(CHILDREN, [Statement("body_part", "other", "BodyPartExamined")])


def test_assurances_are_checked_echoed_and_no_longer_unchecked() -> None:
    report = check(CHILDREN, [Statement("view", "PA", "ViewPosition")], assurances.from_header("age=5, modality=DX"))
    assert report.document == {
        "checked": ["view"],
        "unchecked": ["body_part"],
        "assurances": {"age": 5, "modality": "DX"},
    }
    with pytest.raises(OutOfScopeError, match=r"out of scope \(your assurances\)"):
        check(CHILDREN, [], assurances.from_header("age=61"))


@pytest.mark.parametrize(
    ("stated", "assured", "agree"),
    [
        (Statement("view", "PA", "ViewPosition"), "view=AP", False),
        (Statement("view", "PA", "ViewPosition"), "view=frontal", True),
        (Statement("view", "frontal", "PatientOrientation"), "view=PA", True),
        (Statement("age", Age(5, 6), "PatientAge"), "age=5", True),
        (Statement("age", Age(5, 6), "PatientAge"), "age=5.5", True),
        (Statement("age", Age(5, 6), "PatientAge"), "age=3", False),
        (Statement("modality", "CT", "Modality"), "modality=DX", False),  # also where the scope does not restrict it
    ],
)
def test_contradictions_are_rejected(stated: Statement, assured: str, agree: bool) -> None:
    if agree:
        check(CHILDREN, [stated], assurances.from_header(assured))
        return
    with pytest.raises(OutOfScopeError, match=rf"in your assurances contradicts {stated.source}"):
        check(CHILDREN, [stated], assurances.from_header(assured))


def test_required_attributes() -> None:
    stated = [Statement("age", Age(5, 6), "PatientAge")]
    assert check(CHILDREN, stated, required={"age"}).checked == ("age",)
    assert check(CHILDREN, stated, required={"species"}).checked == ("age",)  # not in the scope
    with pytest.raises(MissingAttributeError, match=r'view \(view\)\. Send a DICOM .*"X-Assurances: view=\.\.\."'):
        check(CHILDREN, stated, required={"age", "view"})
    check(CHILDREN, stated, assurances.from_header("view=PA"), required={"age", "view"})


def test_requirements_of_models() -> None:
    assert requirements.of("chest", "age, view,brain:species") == {"age", "view"}
    assert requirements.of("brain", "age,brain:species") == {"age", "species"}
    assert requirements.of("brain", "") == frozenset()
    with pytest.raises(ScopeError, match=r"Unknown attribute 'height' is required. Available: age, species"):
        requirements.of("brain", "height")


@pytest.mark.parametrize("name", ["chest/1.0.0", "*", "", "Chest", "a:b", "chest cnn"])
def test_requirements_of_no_model_are_rejected(name: str) -> None:
    with pytest.raises(ScopeError, match=r"Invalid model name .* Write NAME:age, .*without a version, or age for all"):
        requirements.of("chest", f"view, {name}:age")


@pytest.mark.parametrize("name", ["chest-cn", "all"])
def test_requirements_of_models_outside_of_the_store_are_rejected(name: str) -> None:
    requirements.check("age,chest:view", {"chest", "brain"})
    with pytest.raises(
        ScopeError, match=rf"Unknown model '{name}' in {name}:age\. Available: brain, chest\. Write NAME:"
    ):
        requirements.check(f"view,{name}:age", {"chest", "brain"})
    with pytest.raises(ScopeError, match="Available: none"):
        requirements.check(f"{name}:age", ())


def test_requirements_that_no_served_model_restricts_have_no_effect() -> None:
    scopes = {"chest": ("age", "view"), "brain": ("species",)}
    assert requirements.without_effect("age,species,chest:view", scopes) == []
    assert requirements.without_effect("laterality, brain:age,glioma:age", scopes) == [
        "laterality",
        "brain:age",
        "glioma:age",
    ]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"age": {"at_least": 6, "below": 6}}, "must be above at_least"),
        ({"weight": 3}, "Extra inputs"),
        ({"orientation": ["L"]}, "pattern"),
        ({"enlargement": 0.5}, "greater than or equal to 1"),
        ({"sequences": ["FLAIR"]}, "at least 2 items"),
    ],
)
def test_invalid_sections(section: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Scope.model_validate(section)


def test_ages_are_described() -> None:
    assert [str(AgeRange(below=below, at_least=1)) for below in (None, 6, 6.5)] == [
        "patients of 1 years and older",
        "patients of 1 to 5 years",
        "patients of 1 to below 6.5 years",
    ]
    assert set(CHILDREN.attributes) < set(ATTRIBUTES)
