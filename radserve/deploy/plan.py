"""What would be done to an environment, stack by stack, without doing it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from radserve.deploy import changeset, costs, stacks, state
from radserve.deploy.changeset import Change
from radserve.deploy.cloud import Cloud
from radserve.deploy.errors import StackFailedError
from radserve.deploy.settings import Settings, StackName
from radserve.deploy.stacks import Values
from radserve.deploy.state import State
from radserve.deploy.template import Template, load

Kind = Literal["create", "update", "unchanged"]

_FROM_TEMPLATE: Final = "as its template says; its change set needs what earlier stacks will give"
_UNKNOWN: Final = "what changes shows when earlier stacks have given {names}; it is shown before it is done"
_FROM_LEFTOVER: Final = "what an earlier creation left ({status}, nothing in it) is removed first"


@dataclass(frozen=True)
class Plan:
    """What would be done to one stack.

    Attributes
    ----------
    billed
        A line for each resource that it will have and that costs money.
    note
        What is to be known about how this was found out.
    """

    stack: StackName
    name: str
    kind: Kind
    changes: tuple[Change, ...]
    billed: tuple[str, ...]
    note: str = ""


def plan(cloud: Cloud, settings: Settings, only: Collection[str] = ()) -> Iterator[Plan]:
    """Find out what would change, by change sets that are removed again.

    Yields
    ------
    Plan
        Of each stack, in the order in which they would be changed.

    Raises
    ------
    SettingsError
        If a parameter is wrong or missing; before AWS is asked to change anything.
    StackFailed
        If a stack is in the way.
    """
    there = state.find_all(cloud, settings.environment)
    check(settings, there)
    outputs = state.outputs(there.values())
    wanted = [load(stack) for stack in stacks.chosen(settings, only)]
    todo = [(template, stacks.values(template, settings, outputs)) for template in wanted]
    for template, values in todo:
        yield _plan(cloud, settings, template, values, there.get(template.stack))


def check(settings: Settings, there: dict[StackName, State]) -> None:
    """Refuse to go on where a stack would make it go wrong.

    Raises
    ------
    StackFailed
        If one is being changed, is stuck, or is of the home that is not the environment's.
    """
    for found in there.values():
        if found.busy:
            raise StackFailedError(
                f"{found.name} is {found.status}: somebody changes it. 'radserve deploy status' shows when it is done."
            )
        if found.status in state.STUCK:
            raise StackFailedError(
                f"{found.name} is {found.status}: {found.reason or 'AWS gives no reason'}. Continue or delete it in "
                "CloudFormation's console, which shows what holds it."
            )
    for home in stacks.other_homes(settings):
        if other := there.get(home):
            raise StackFailedError(
                f"{other.name} is there, but the home of {settings.environment} is {settings.home}; both would take "
                f"the same names. Destroy it first: radserve deploy destroy FILE --stack {other.stack}."
            )


def _plan(cloud: Cloud, settings: Settings, template: Template, values: Values, there: State | None) -> Plan:
    name = stacks.name(settings.environment, template.stack)
    resources = template.resources(values.all())
    billed = tuple(filter(None, map(costs.of, resources.values())))
    left = there is not None and there.status in state.EMPTY
    if there is None or left:
        if left or values.missing:
            note = _FROM_LEFTOVER.format(status=there.status) if there else _FROM_TEMPLATE
            added = sorted(Change(key, item["Type"], "Add") for key, item in resources.items())
            return Plan(template.stack, name, "create", tuple(added), billed, note)
    elif values.missing:
        return Plan(template.stack, name, "update", (), billed, _UNKNOWN.format(names=", ".join(values.missing)))
    found = changeset.create(cloud, name, template, values.known, settings.all_tags(), there)
    if found is None:
        return Plan(template.stack, name, "unchanged", (), billed)
    changeset.delete(cloud, found)
    return Plan(template.stack, name, "update" if there else "create", found.changes, billed)
