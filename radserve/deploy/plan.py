"""Plan for an environment: what would change in each stack, and applying it."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from radserve.deploy import costs, parameters, prerequisites, stack
from radserve.deploy.aws_clients import Cloud
from radserve.deploy.errors import MissingPrerequisiteError, StackError
from radserve.deploy.package import Package
from radserve.deploy.parameters import Values
from radserve.deploy.prerequisites import Prerequisites
from radserve.deploy.settings import STACKS, Settings, StackName
from radserve.deploy.stack import Change, Event, Stack
from radserve.deploy.template import Template, load

_FROM_TEMPLATE: Final = "from its template; its change set needs values that are not known yet"
_UNKNOWN: Final = "changes depend on {names}, which are not known yet; they are shown before they are made"
_LEFTOVER: Final = "the empty stack of an earlier creation ({status}) is deleted first"


@dataclass(frozen=True)
class Plan:
    """Planned changes of one stack.

    `costs` has a line for each resource that the stack will have and that costs money. `note` says how the plan was
    determined, if not by a change set.
    """

    stack: StackName
    name: str
    action: Literal["create", "update", "unchanged"]
    changes: tuple[Change, ...]
    costs: tuple[str, ...]
    note: str = ""
    prerequisites: Prerequisites = field(default_factory=Prerequisites)


def find_stacks(cloud: Cloud, settings: Settings, only: Collection[StackName] = STACKS) -> dict[StackName, Stack]:
    """Look up an environment's stacks and return the existing ones."""
    stacks = {item: stack.describe(cloud, item, settings.stack_name(item)) for item in only}
    return {item: state for item, state in stacks.items() if state}


def plan(cloud: Cloud, settings: Settings, only: Collection[str] = ()) -> Iterator[Plan]:
    """Plan the changes of an environment with change sets, which are deleted again; in the order of `apply`.

    Raises SettingsError for a parameter that is invalid or missing, before any change set is created, and StackError
    for a stack that cannot be changed.
    """
    stacks = find_stacks(cloud, settings)
    check(settings, stacks)
    templates = [load(item) for item in settings.stacks(only)]
    outputs = _outputs(stacks)
    for template in templates:
        parameters.resolve(template, settings, outputs)
    for template in templates:
        state = stacks.get(template.stack)
        checked = _prerequisites(cloud, settings, template, outputs, state)
        values = parameters.resolve(template, settings, outputs, checked.pinned)
        yield replace(_plan(cloud, settings, template, values, state), prerequisites=checked)


def require(plans: Collection[Plan]) -> None:
    """Require that nothing is missing that the planned stacks need."""
    if missing := [line for item in plans for line in item.prerequisites.missing]:
        raise MissingPrerequisiteError(f"Nothing was changed. {'; '.join(missing)}")


def check(settings: Settings, stacks: dict[StackName, Stack]) -> None:
    """Check that no stack is being changed, is stuck, or belongs to another home than the settings'."""
    for state in stacks.values():
        if state.busy:
            raise StackError(
                f"{state.name} is {state.status}: another change is in progress. To see when it has ended: "
                "radserve deploy status FILE."
            )
        if state.status in stack.STUCK:
            raise StackError(
                f"{state.name} is {state.status}: {state.reason or 'AWS gives no reason'}. Continue its rollback or "
                "delete it in CloudFormation's console."
            )
        if state.stack in ("service", "host") and not settings.has(state.stack):
            raise StackError(
                f"{state.name} exists, but the home of {settings.environment} is {settings.home}; both would use the "
                f"same names. Destroy it first: radserve deploy destroy FILE --stack {state.stack}."
            )


def apply(
    cloud: Cloud, settings: Settings, plans: Collection[Plan], confirm: Callable[[str, Sequence[Change]], bool]
) -> Iterator[str | Event]:
    """Apply plans and yield progress: lines, and events of resources.

    Each change set is created again, with the outputs that earlier stacks have by now. `confirm` receives a stack's
    name and the changes that its plan did not list; False stops before them. Later stacks stay unchanged after a
    StackError. Raises MissingPrerequisiteError before any change.
    """
    require(plans)
    for planned in plans:
        yield from _apply(cloud, settings, planned, confirm)


def protect(cloud: Cloud, settings: Settings, only: Collection[StackName]) -> None:
    """Set the termination protection of stacks as the settings say."""
    for state in find_stacks(cloud, settings, only).values():
        if state.protected != settings.termination_protection and state.status not in stack.EMPTY:
            cloud.formation.update_termination_protection(
                StackName=state.name, EnableTerminationProtection=settings.termination_protection
            )


def _outputs(stacks: dict[StackName, Stack]) -> dict[str, str]:
    return {key: value for state in stacks.values() for key, value in state.outputs.items()}


def _prerequisites(
    cloud: Cloud, settings: Settings, template: Template, outputs: Mapping[str, str], state: Stack | None
) -> Prerequisites:
    current = state.outputs if state else {}
    return prerequisites.find(cloud, template, parameters.candidates(settings, template.stack, outputs), current)


def _plan(cloud: Cloud, settings: Settings, template: Template, values: Values, state: Stack | None) -> Plan:
    name = settings.stack_name(template.stack)
    resources = template.resources(values.all())
    billed = tuple(filter(None, map(costs.unit, resources.values())))
    leftover = state is not None and state.status in stack.EMPTY
    if leftover or (state is None and values.missing):
        note = _LEFTOVER.format(status=state.status) if state else _FROM_TEMPLATE
        added = sorted(Change(key, item["Type"], "Add") for key, item in resources.items())
        return Plan(template.stack, name, "create", tuple(added), billed, note)
    if values.missing:
        return Plan(template.stack, name, "update", (), billed, _UNKNOWN.format(names=", ".join(values.missing)))
    change_set = stack.create_change_set(cloud, name, template, values.known, settings.all_tags(), new=state is None)
    if change_set is None:
        return Plan(template.stack, name, "unchanged", (), billed)
    stack.delete_change_set(cloud, change_set)
    return Plan(template.stack, name, "update" if state else "create", change_set.changes, billed)


def _apply(
    cloud: Cloud, settings: Settings, planned: Plan, confirm: Callable[[str, Sequence[Change]], bool]
) -> Iterator[str | Event]:
    stacks = find_stacks(cloud, settings, settings.stacks())
    template = load(planned.stack)
    values = parameters.resolve(template, settings, _outputs(stacks), planned.prerequisites.pinned)
    if values.missing:
        raise StackError(
            f"{planned.stack} needs {', '.join(values.missing)} of stacks that do not exist: apply those first."
        )
    if planned.stack == "front" and values.known["PackageKey"]:
        yield from Package.read(settings.package).upload(cloud, values.known["ModelBucket"])
    state = stacks.get(planned.stack)
    if state and state.status in stack.EMPTY:
        stack.delete_empty(cloud, state.id)
        state = None
    change_set = stack.create_change_set(
        cloud, planned.name, template, values.known, settings.all_tags(), new=state is None
    )
    if change_set is None:
        return
    unplanned = sorted(set(change_set.changes) - set(planned.changes))
    if unplanned and not confirm(planned.name, unplanned):
        stack.delete_change_set(cloud, change_set)
        raise StackError(f"{planned.name}: unplanned changes not confirmed; this and later stacks are unchanged.")
    yield f"{planned.name}:"
    state = yield from stack.execute(cloud, planned.stack, change_set)
    yield f"{planned.name} is {state.status}."
