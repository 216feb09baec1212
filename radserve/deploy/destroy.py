"""Take an environment down, in the reverse order of its making."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from radserve.deploy import progress, stacks, state
from radserve.deploy.cloud import Cloud
from radserve.deploy.data import Data
from radserve.deploy.errors import SettingsError, StackFailedError
from radserve.deploy.hints import with_hint
from radserve.deploy.progress import Event
from radserve.deploy.settings import Settings
from radserve.deploy.state import State


@dataclass(frozen=True)
class Doomed:
    """What would be deleted, in this order, and what would stay."""

    going: tuple[State, ...]
    kept: tuple[State, ...]

    @property
    def holds_data(self) -> bool:
        """Whether models, images or keys are among what goes."""
        return any(item.stack in stacks.KEPT for item in self.going)


def doomed(cloud: Cloud, settings: Settings, only: Collection[str], *, data: bool) -> Doomed:
    """Find out what would be deleted.

    Parameters
    ----------
    only
        Stacks to delete; all if none is named.
    data
        Whether what holds data goes too.

    Raises
    ------
    SettingsError
        If one is named that there cannot be.
    StackFailed
        If a stack is being changed, is protected, or is needed by one that would stay.
    """
    there = state.find_all(cloud, settings.environment)
    if unknown := sorted(set(only) - set(stacks.ORDER)):
        raise SettingsError(f"{unknown[0]!r} is no stack; stacks are {', '.join(stacks.ORDER)}.")
    wanted = [there[stack] for stack in reversed(stacks.ORDER) if stack in there and (not only or stack in only)]
    going = tuple(item for item in wanted if data or item.stack not in stacks.KEPT)
    for item in going:
        if item.busy:
            raise StackFailedError(f"{item.name} is {item.status}: somebody changes it.")
        if item.protected:
            raise StackFailedError(with_hint(f"{item.name} has termination protection"))
    staying = {item.stack for item in there.values()} - {item.stack for item in going}
    for item in going:
        if users := sorted(staying & stacks.users(item.stack)):
            raise StackFailedError(f"{item.name} is needed by {', '.join(users)}: destroy that too.")
    return Doomed(going, tuple(item for item in wanted if item not in going))


def destroy(
    cloud: Cloud,
    what: Doomed,
    started: Callable[[str], None],
    event: Callable[[Event], None],
    note: Callable[[str], None],
) -> None:
    """Delete it.

    Raises
    ------
    StackFailed
        If a stack could not be deleted; those that it needs are left alone.
    """
    for item in what.going:
        data = Data.of(cloud, item.id) if item.stack in stacks.KEPT | stacks.TEMPORARY else None
        if data:
            # Repositories and buckets are deleted only when they are empty.
            data.empty(cloud, note)
        started(item.name)
        known = progress.seen(cloud, item.id)
        cloud.formation.delete_stack(StackName=item.id)
        progress.follow(cloud, item.stack, item.id, known, event)
        if data and item.stack in stacks.KEPT:
            # The template has them outlive their stack.
            data.delete(cloud, note)
