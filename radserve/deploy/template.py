"""CloudFormation templates: parameters, conditions and rules, evaluated before AWS receives a request."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

import yaml

from radserve.deploy.errors import SettingsError
from radserve.deploy.settings import StackName

FOLDER: Final = Path(__file__).with_name("templates")

_BODY_LIMIT: Final = 51_200
"""Largest TemplateBody of CreateChangeSet in bytes (CloudFormation quotas)."""


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms."""


def _construct_function(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
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


_Loader.add_multi_constructor("!", _construct_function)


@cache
def _parse(body: str) -> dict[str, Any]:
    """Parse a template, once: it takes 0.1 s, and a command needs each template many times."""
    return dict(yaml.load(body, Loader=_Loader))  # noqa: S506 - a safe loader with functions


@dataclass(frozen=True)
class Parameter:
    """Parameter of a template and the constraints on its value."""

    name: str
    declaration: Mapping[str, Any]

    @property
    def default(self) -> str | None:
        """Default value."""
        value = self.declaration.get("Default")
        return None if value is None else str(value)

    def check(self, stack: str, value: str) -> None:
        """Check a value against the constraints, as CloudFormation does."""
        if problem := self._problem(value):
            raise SettingsError(f"{stack}.{self.name} has value {value!r}: it must be {problem}")

    def _problem(self, value: str) -> str | None:
        allowed = [str(item) for item in self.declaration.get("AllowedValues", [])]
        if allowed and value not in allowed:
            return f"one of {', '.join(item or repr(item) for item in allowed)}."
        if "AllowedPattern" in self.declaration and not re.fullmatch(self.declaration["AllowedPattern"], value):
            return str(self.declaration["ConstraintDescription"])
        if self.declaration["Type"] == "Number":
            try:
                number = Decimal(value)
            except InvalidOperation:
                return "a number."
            low, high = (self.declaration.get(bound) for bound in ("MinValue", "MaxValue"))
            if not number.is_finite() or (low is not None and number < low) or (high is not None and number > high):
                return f"between {low} and {high}."
        return None


@dataclass(frozen=True)
class Template:
    """Template of one stack; `body` is the text that CloudFormation receives."""

    stack: StackName
    body: str

    @cached_property
    def document(self) -> dict[str, Any]:
        """Parsed body, with short forms such as !Ref expanded."""
        return _parse(self.body)

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """Parameters by name."""
        return {name: Parameter(name, item) for name, item in self.document.get("Parameters", {}).items()}

    @cached_property
    def outputs(self) -> frozenset[str]:
        """Names of the outputs."""
        return frozenset(self.document.get("Outputs", {}))

    def resources(self, values: Mapping[str, str | None]) -> dict[str, dict[str, Any]]:
        """Return the resources, by logical ID, that the template creates with these values and its defaults.

        None is a value that is not known yet: a condition that depends on it counts as met.
        """
        values = self._with_defaults(values)
        return {
            name: item
            for name, item in self.document["Resources"].items()
            if "Condition" not in item or self._evaluate({"Condition": item["Condition"]}, values) is not False
        }

    def check(self, values: Mapping[str, str | None]) -> None:
        """Check the combination of values against the template's rules."""
        values = self._with_defaults(values)
        for rule in self.document.get("Rules", {}).values():
            if "RuleCondition" in rule and self._evaluate(rule["RuleCondition"], values) is False:
                continue
            for item in rule["Assertions"]:
                if self._evaluate(item["Assert"], values) is False:
                    raise SettingsError(f"{self.stack}: {item['AssertDescription']}")

    def _with_defaults(self, values: Mapping[str, str | None]) -> dict[str, str | None]:
        return {name: item.default for name, item in self.parameters.items()} | dict(values)

    def _evaluate(self, condition: Mapping[str, Any], values: Mapping[str, str | None]) -> bool | None:
        """Evaluate a condition; None if it depends on an unknown value."""
        ((function, argument),) = condition.items()
        if function == "Condition":
            return self._evaluate(self.document["Conditions"][argument], values)
        if function == "Fn::Equals":
            left, right = (self._value(item, values) for item in argument)
            return None if left is None or right is None else left == right
        results = [self._evaluate(item, values) for item in argument]
        if function == "Fn::Not":
            return None if results[0] is None else not results[0]
        decisive = function == "Fn::Or"
        if decisive in results:
            return decisive
        return None if None in results else not decisive

    def _value(self, item: Any, values: Mapping[str, str | None]) -> str | None:
        if not isinstance(item, dict):
            return str(item)
        if "Ref" in item:
            return values.get(item["Ref"])
        name, *keys = item["Fn::FindInMap"]
        entry = self.document["Mappings"][name]
        for key in keys:
            text = self._value(key, values)
            if text is None:
                return None
            entry = entry[text]
        return str(entry)


def load(stack: StackName, folder: Path = FOLDER) -> Template:
    """Read the template of a stack."""
    body = (folder / f"{stack}.yaml").read_text(encoding="utf-8")
    assert len(body.encode()) <= _BODY_LIMIT, f"{stack}.yaml exceeds {_BODY_LIMIT} bytes"
    return Template(stack, body)
