"""Values of a stack's parameters: from the settings, from outputs of earlier stacks, or defaults."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from radserve.deploy.errors import SettingsError
from radserve.deploy.package import Package
from radserve.deploy.prerequisites import LATEST, PINNED
from radserve.deploy.settings import STACKS, Settings, StackName
from radserve.deploy.template import Template, load

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True)
class Values:
    """Values of a stack's parameters.

    `known` omits parameters with their default; the values of those in `missing` are not known yet: outputs of stacks
    that do not exist, and those in `PINNED`.
    """

    known: Mapping[str, str]
    missing: tuple[str, ...]

    def all(self) -> dict[str, str | None]:
        """Return all values; None for those that are missing."""
        return {**self.known, **dict.fromkeys(self.missing)}


def resolve(
    template: Template, settings: Settings, outputs: Mapping[str, str], pinned: Mapping[str, str] = _NOTHING
) -> Values:
    """Determine the values of a template's parameters; settings take precedence over outputs of existing stacks.

    `pinned` has values that `radserve.deploy.prerequisites` determined; they take precedence over both.
    Raises SettingsError if a parameter is unknown, missing, violates its constraint, or contradicts another one.
    """
    stack = template.stack
    configured = settings.parameters.get(stack, {})
    if unknown := sorted(set(configured) - set(template.parameters)):
        available = ", ".join(sorted(set(template.parameters) - {"Environment"}))
        raise SettingsError(f"Unknown parameter {stack}.{unknown[0]}. Available: {available}.")
    values = {**candidates(settings, stack, outputs), **pinned}
    known = {name: values[name] for name in template.parameters if name in values}
    if known.get("AmiId") == LATEST:
        del known["AmiId"]
    for name, value in known.items():
        template.parameters[name].check(stack, value)
    own = settings.stacks()
    future = PINNED.union(*(load(earlier).outputs for earlier in own[: own.index(stack)]))
    for name, parameter in template.parameters.items():
        if name not in known and name not in future and parameter.default is None:
            raise SettingsError(f"{stack}.{name} is missing. {parameter.declaration['Description']}")
    resolved = Values(known, tuple(name for name in template.parameters if name not in known and name in future))
    template.check(resolved.all())
    return resolved


def candidates(settings: Settings, stack: StackName, outputs: Mapping[str, str]) -> dict[str, str]:
    """Return the values of settings and outputs, without defaults; also those that the stack has no parameter for."""
    configured = settings.parameters.get(stack, {})
    return {**_front(settings), **outputs, **configured, "Environment": settings.environment}


def _front(settings: Settings) -> dict[str, str]:
    """Return values that only the front's template has."""
    if not settings.has("front"):
        return {}
    values = {"PackageKey": Package.read(settings.package).key if settings.front == "zip" else ""}
    return values if settings.has("network") else {**values, "VpcId": "", "PrivateSubnets": ""}


def dependents(stack: StackName) -> frozenset[StackName]:
    """Return the stacks that use an output of this one."""
    outputs = load(stack).outputs
    later = STACKS[STACKS.index(stack) + 1 :]
    return frozenset(item for item in later if outputs & set(load(item).parameters))
