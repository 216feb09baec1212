"""What the tests of the CloudFormation templates read from them."""

from collections.abc import Iterator
from typing import Any

from radserve.deploy.settings import STACKS, StackName
from radserve.deploy.template import Template, load


def of(template: Template, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield logical ID and properties of each resource of a type."""
    for name, item in template.document["Resources"].items():
        if item["Type"] == kind:
            yield name, item.get("Properties", {})


def met(item: Any) -> Any:
    """Return an item as if its condition is met."""
    return item["Fn::If"][1] if isinstance(item, dict) and "Fn::If" in item else item


def listed(value: Any) -> list[Any]:
    """Wrap a single value in a list."""
    return value if isinstance(value, list) else [value]


def statements() -> Iterator[tuple[StackName, str, dict[str, Any]]]:
    """Yield every statement of every policy in all templates."""
    for stack in STACKS:
        for name, item in load(stack).document["Resources"].items():
            for statement in _statements(item):
                yield stack, name, statement


def _statements(item: Any) -> Iterator[dict[str, Any]]:
    if isinstance(item, dict):
        yield from map(met, item.get("Statement", []))
        for value in item.values():
            yield from _statements(value)
    elif isinstance(item, list):
        for value in item:
            yield from _statements(value)


ALLOWED = [item for item in statements() if item[2]["Effect"] == "Allow"]


def containers() -> dict[str, dict[str, Any]]:
    """Return the containers of the task, by name."""
    ((_, task),) = of(load("service"), "AWS::ECS::TaskDefinition")
    return {item["Name"]: item for item in map(met, task["ContainerDefinitions"])}


def environment(container: dict[str, Any]) -> dict[str, Any]:
    """Return a container's variables, including conditional ones."""
    return {item["Name"]: item["Value"] for item in map(met, container["Environment"])}
