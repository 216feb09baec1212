"""A CloudFormation template, as far as it has to be understood before AWS is asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import yaml

from radserve.deploy.errors import SettingsError
from radserve.deploy.settings import StackName

FOLDER: Final = Path(__file__).with_name("templates")

_BODY_LIMIT: Final = 51_200
"""Bytes that CreateChangeSet takes as TemplateBody (CloudFormation quotas)."""


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms."""


def _function(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    if suffix in {"Ref", "Condition"}:
        return {suffix: value}
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _function)


@dataclass(frozen=True)
class Parameter:
    """One parameter, with what its value has to be."""

    name: str
    declared: Mapping[str, Any]

    @property
    def default(self) -> str | None:
        """Its value where none is given."""
        found = self.declared.get("Default")
        return None if found is None else str(found)

    def check(self, stack: str, value: str) -> None:
        """Hold a value against the constraints, as CloudFormation would.

        Raises
        ------
        SettingsError
            If it breaks one.
        """
        if reason := self._wrong(value):
            raise SettingsError(f"{stack}.{self.name} has value {value!r}: {reason}")

    def _wrong(self, value: str) -> str | None:
        if "AllowedValues" in self.declared and value not in map(str, self.declared["AllowedValues"]):
            return f"it must be one of {', '.join(map(str, self.declared['AllowedValues']))}."
        if "AllowedPattern" in self.declared and not re.fullmatch(self.declared["AllowedPattern"], value):
            return f"it must be {self.declared['ConstraintDescription']}"
        if self.declared["Type"] == "Number":
            return self._out_of_range(value)
        return None

    def _out_of_range(self, value: str) -> str | None:
        try:
            number = Decimal(value)
        except InvalidOperation:
            return "it must be a number."
        low, high = (self.declared.get(bound) for bound in ("MinValue", "MaxValue"))
        if not number.is_finite() or (low is not None and number < low) or (high is not None and number > high):
            return f"it must be between {low} and {high}."
        return None


@dataclass(frozen=True)
class Template:
    """One template: the text that AWS gets, and what it says."""

    stack: StackName
    body: str

    @cached_property
    def document(self) -> dict[str, Any]:
        """All of it, with short forms such as !Ref written out."""
        return dict(yaml.load(self.body, Loader=_Loader))  # noqa: S506 - a safe loader with functions

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """What it takes, by name."""
        return {name: Parameter(name, item) for name, item in self.document.get("Parameters", {}).items()}

    @cached_property
    def outputs(self) -> frozenset[str]:
        """Names of what it gives."""
        return frozenset(self.document.get("Outputs", {}))

    def resources(self, values: Mapping[str, str | None]) -> dict[str, dict[str, Any]]:
        """Return the resources, by logical ID, that it makes with these values of its parameters.

        Defaults stand in for those that are left out. A condition on a value
        that is None, which is not known yet, counts as met.
        """
        known = {name: item.default for name, item in self.parameters.items()} | dict(values)
        return {
            name: item
            for name, item in self.document["Resources"].items()
            if "Condition" not in item or self._holds({"Condition": item["Condition"]}, known)
        }

    def check(self, values: Mapping[str, str | None]) -> None:
        """Hold values against each other, as the template's rules say.

        Raises
        ------
        SettingsError
            If they do not go together.
        """
        known = {name: item.default for name, item in self.parameters.items()} | dict(values)
        for rule in self.document.get("Rules", {}).values():
            if "RuleCondition" in rule and not self._holds(rule["RuleCondition"], known):
                continue
            for item in rule["Assertions"]:
                if not self._holds(item["Assert"], known):
                    raise SettingsError(f"{self.stack}: {item['AssertDescription']}")

    def _holds(self, condition: Mapping[str, Any], known: Mapping[str, str | None]) -> bool:
        ((name, inner),) = condition.items()
        if name == "Condition":
            return self._holds(self.document["Conditions"][inner], known)
        if name == "Fn::Equals":
            left, right = (self._value(item, known) for item in inner)
            return left is None or right is None or left == right
        if name == "Fn::Not" and self._is_open(inner[0], known):
            return True
        held = [self._holds(item, known) for item in inner]
        return not held[0] if name == "Fn::Not" else all(held) if name == "Fn::And" else any(held)

    def _is_open(self, condition: Mapping[str, Any], known: Mapping[str, str | None]) -> bool:
        return "Fn::Equals" in condition and None in [self._value(item, known) for item in condition["Fn::Equals"]]

    def _value(self, item: Any, known: Mapping[str, str | None]) -> str | None:
        if not isinstance(item, dict):
            return str(item)
        if "Ref" in item:
            return known.get(item["Ref"])
        name, *keys = item["Fn::FindInMap"]
        found = self.document["Mappings"][name]
        for key in keys:
            text = self._value(key, known)
            if text is None:
                return None
            found = found[text]
        return str(found)


def load(stack: StackName, folder: Path = FOLDER) -> Template:
    """Read the template of a stack."""
    body = (folder / f"{stack}.yaml").read_text(encoding="utf-8")
    assert len(body.encode()) <= _BODY_LIMIT, f"{stack}.yaml is too long to be sent to CloudFormation as it is"
    return Template(stack, body)
