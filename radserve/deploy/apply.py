"""Make an environment what its settings say, one stack after the other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from radserve.deploy import changeset, package, progress, stacks, state
from radserve.deploy.changeset import Change, ChangeSet
from radserve.deploy.cloud import Cloud
from radserve.deploy.errors import StackFailedError
from radserve.deploy.plan import Plan
from radserve.deploy.progress import Event
from radserve.deploy.settings import Settings, StackName
from radserve.deploy.template import load


@dataclass(frozen=True)
class Watch:
    """What the one who applies is told and asked.

    Attributes
    ----------
    started, event, finished
        A stack begins to change; something happened to one of its resources; it is done.
    note
        Something was done that is no resource of a stack.
    agree
        Asked about changes that were not in the plan; False leaves the stack as it is.
    """

    started: Callable[[str], None]
    event: Callable[[Event], None]
    finished: Callable[[str, str], None]
    note: Callable[[str], None]
    agree: Callable[[str, Sequence[Change]], bool]


def apply(cloud: Cloud, settings: Settings, plans: Collection[Plan], watch: Watch) -> bool:
    """Do what was planned; tell whether everything was done.

    Change sets are made anew, now with what the stacks before have given.
    What turns up in one that was not in the plan is asked about first.

    Raises
    ------
    StackFailed
        If a stack did not become what was asked for; those after it are left alone.
    """
    return all(_apply(cloud, settings, planned, watch) for planned in plans)


def protect(cloud: Cloud, settings: Settings, wanted: Collection[StackName]) -> None:
    """Set the termination protection of stacks that have it otherwise."""
    for found in state.find_all(cloud, settings.environment, wanted).values():
        if found.protected != settings.termination_protection and found.status not in state.EMPTY:
            cloud.formation.update_termination_protection(
                StackName=found.name, EnableTerminationProtection=settings.termination_protection
            )


def _apply(cloud: Cloud, settings: Settings, planned: Plan, watch: Watch) -> bool:
    there = state.find(cloud, settings.environment, planned.stack)
    if there is not None and there.status in state.EMPTY:
        changeset.remove(cloud, there.id)
        there = None
    found = _change_set(cloud, settings, planned.stack, there, watch)
    if found is None:
        return True
    unseen = sorted(set(found.changes) - set(planned.changes))
    if unseen and not watch.agree(planned.name, unseen):
        changeset.delete(cloud, found)
        return False
    watch.started(planned.name)
    known = progress.seen(cloud, found.stack_id)
    changeset.execute(cloud, found)
    done = progress.follow(cloud, planned.stack, found.stack_id, known, watch.event)
    watch.finished(planned.name, done.status)
    return True


def _change_set(
    cloud: Cloud, settings: Settings, stack: StackName, there: state.State | None, watch: Watch
) -> ChangeSet | None:
    template = load(stack)
    given = state.outputs(state.find_all(cloud, settings.environment, stacks.chosen(settings)).values())
    values = stacks.values(template, settings, given)
    if values.missing:
        raise StackFailedError(
            f"{stack} needs {', '.join(values.missing)} of stacks that are not there: apply those first."
        )
    if stack == "front" and values.known["PackageKey"]:
        package.upload(cloud, values.known["ModelBucket"], package.of(settings), watch.note)
    name = stacks.name(settings.environment, stack)
    return changeset.create(cloud, name, template, values.known, settings.all_tags(), there)
