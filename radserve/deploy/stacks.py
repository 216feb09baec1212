"""Which stacks an environment has, in which order, and what flows from one to the next."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from radserve.deploy import package
from radserve.deploy.errors import SettingsError
from radserve.deploy.settings import Settings, StackName
from radserve.deploy.template import Template, load

ORDER: Final[tuple[StackName, ...]] = ("storage", "secrets", "network", "service", "host", "monitoring", "front")
"""Each after those whose outputs it takes."""

KEPT: Final[frozenset[StackName]] = frozenset({"storage", "secrets"})
"""What holds data: models, images and keys stay when an environment is destroyed, unless told."""

TEMPORARY: Final[frozenset[StackName]] = frozenset({"front"})
"""What holds data that would be gone in a day: a bucket of uploads, which has to be empty before it is deleted."""


@dataclass(frozen=True)
class Values:
    """Values of a stack's parameters.

    Attributes
    ----------
    known
        By name; those left to their defaults are not in it.
    missing
        Names of those that an earlier stack will give, once it is there.
    """

    known: Mapping[str, str]
    missing: tuple[str, ...]

    def all(self) -> dict[str, str | None]:
        """Return them with None for those that are missing."""
        return {**self.known, **dict.fromkeys(self.missing)}


def name(environment: str, stack: StackName) -> str:
    """Return the name that AWS knows a stack by."""
    return f"radserve-{environment}-{stack}"


def other_homes(settings: Settings) -> tuple[StackName, ...]:
    """Return the homes that an environment does not have."""
    homes: tuple[StackName, ...] = ("service", "host")
    return tuple(home for home in homes if not settings.has(home))


def chosen(settings: Settings, only: Collection[str] = ()) -> tuple[StackName, ...]:
    """Return the stacks of an environment in the order of their dependencies, all or `only` some of them.

    Raises
    ------
    SettingsError
        If one is asked for that it does not have.
    """
    own = tuple(stack for stack in ORDER if settings.has(stack))
    for stack in only:
        if stack not in own:
            raise SettingsError(f"{settings.environment} has no stack {stack!r}; its stacks are {', '.join(own)}.")
    return tuple(stack for stack in own if not only or stack in only)


def values(template: Template, settings: Settings, outputs: Mapping[str, str]) -> Values:
    """Put together what a template's parameters get: what is set, what earlier stacks gave, and defaults.

    Parameters
    ----------
    outputs
        Of all stacks that are there, by name.

    Raises
    ------
    SettingsError
        If a parameter is set that the template does not have, breaks its constraint, or has to be set and is not; or
        if parameters do not go together.
    """
    stack = template.stack
    given = settings.parameters.get(stack, {})
    if unknown := sorted(set(given) - set(template.parameters)):
        free = ", ".join(sorted(set(template.parameters) - {"Environment"}))
        raise SettingsError(f"{stack}.{unknown[0]} is no parameter; parameters are {free}.")
    made = package.parameters(settings) if stack == "front" else {}
    found = {**made, **outputs, **given, "Environment": settings.environment}
    known = {key: found[key] for key in template.parameters if key in found}
    for key, value in known.items():
        template.parameters[key].check(stack, value)
    promised = _promised(settings, stack)
    for key, item in template.parameters.items():
        if key not in known and key not in promised and item.default is None:
            raise SettingsError(f"{stack}.{key} is missing. {item.declared['Description']}")
    values = Values(known, tuple(key for key in template.parameters if key not in known and key in promised))
    template.check(values.all())
    return values


def _promised(settings: Settings, stack: StackName) -> frozenset[str]:
    own = chosen(settings)
    return frozenset().union(*(load(item).outputs for item in own[: own.index(stack)]))


def users(stack: StackName) -> frozenset[StackName]:
    """Return the stacks that take an output of this one."""
    gives = load(stack).outputs
    later = ORDER[ORDER.index(stack) + 1 :]
    return frozenset(item for item in later if gives & set(load(item).parameters))
