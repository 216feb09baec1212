"""Templates: parameters, conditions and rules."""

import pytest

from radserve.deploy.errors import SettingsError
from radserve.deploy.template import Template

BODY = """
Parameters:
  Size: {Type: String, Default: small}
  Count: {Type: Number, Default: 0, MinValue: 0, MaxValue: 10}
  Name: {Type: String, AllowedPattern: "^[a-z]+$", ConstraintDescription: small letters.}
  Zone: {Type: String, Default: "", AllowedValues: ["", a, b]}
Mappings:
  Sizes: {small: {Gpus: "0"}, large: {Gpus: "1"}}
Conditions:
  Gpu: !Not [!Equals [!FindInMap [Sizes, !Ref Size, Gpus], "0"]]
  Some: !Not [!Equals [!Ref Count, 0]]
  Both: !And [!Condition Gpu, !Condition Some]
  Either: !Or [!Condition Gpu, !Equals [!Ref Zone, a]]
Resources:
  Always: {Type: A}
  Gpu: {Type: B, Condition: Gpu}
  Both: {Type: C, Condition: Both}
  Either: {Type: D, Condition: Either}
Outputs:
  Name: {Value: !GetAtt Always.Name}
"""
TEMPLATE = Template("storage", BODY)


@pytest.mark.parametrize(
    ("values", "resources"),
    [
        ({}, {"Always"}),
        ({"Size": "large"}, {"Always", "Gpu", "Either"}),
        ({"Size": "large", "Count": "2"}, {"Always", "Gpu", "Both", "Either"}),
        ({"Zone": "a"}, {"Always", "Either"}),
        ({"Zone": None}, {"Always", "Either"}),
        ({"Size": None, "Count": "0"}, {"Always", "Gpu", "Either"}),
        ({"Size": None, "Count": None}, {"Always", "Gpu", "Both", "Either"}),
    ],
)
def test_condition_on_an_unknown_value_counts_as_met(values: dict[str, str | None], resources: set[str]) -> None:
    assert set(TEMPLATE.resources(values)) == resources


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("Count", "11", "it must be between 0 and 10."),
        ("Count", "-1", "it must be between 0 and 10."),
        ("Count", "NaN", "it must be between 0 and 10."),
        ("Count", "many", "it must be a number."),
        ("Name", "a1", "it must be small letters."),
        ("Name", "a\n", "it must be small letters."),
        ("Zone", "c", "it must be one of '', a, b."),
    ],
)
def test_value_that_violates_a_constraint_is_rejected(name: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        TEMPLATE.parameters[name].check("storage", value)
    assert str(caught.value) == f"storage.{name} has value {value!r}: {message}"


@pytest.mark.parametrize(("name", "value"), [("Count", "10"), ("Name", "ab"), ("Zone", ""), ("Size", "anything")])
def test_value_within_the_constraints_is_accepted(name: str, value: str) -> None:
    TEMPLATE.parameters[name].check("storage", value)


def test_short_forms_are_expanded() -> None:
    assert TEMPLATE.document["Outputs"]["Name"]["Value"] == {"Fn::GetAtt": ["Always", "Name"]}
    assert TEMPLATE.outputs == {"Name"}
