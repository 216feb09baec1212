"""Follow a stack while AWS changes it, event by event."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from radserve.deploy.cloud import Cloud
from radserve.deploy.errors import StackFailedError
from radserve.deploy.hints import with_hint
from radserve.deploy.settings import StackName
from radserve.deploy.state import State, ask

if TYPE_CHECKING:
    from types_boto3_cloudformation.type_defs import StackEventTypeDef

_POLL: Final = 3.0
_DONE: Final = frozenset(
    {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "DELETE_COMPLETE"}
)
_CONSEQUENCE: Final = "cancelled"
"""What CloudFormation says of resources that it gave up because another one failed."""


@dataclass(frozen=True)
class Event:
    """Something that happened to one resource."""

    id: str
    time: datetime
    logical_id: str
    type: str
    status: str
    reason: str

    @property
    def failed(self) -> bool:
        """Whether it is a failure that has its own reason."""
        return self.status.endswith("_FAILED") and _CONSEQUENCE not in self.reason


Show = Callable[[Event], None]


def seen(cloud: Cloud, stack_id: str) -> set[str]:
    """Return the IDs of events up to now, which are not of the change that follows."""
    return {event.id for event in _events(cloud, stack_id)}


def follow(cloud: Cloud, stack: StackName, stack_id: str, known: set[str], show: Show, poll: float = _POLL) -> State:
    """Show events as they come, until the stack has come to rest.

    Parameters
    ----------
    known
        Events from before; grows.
    poll
        Seconds between two looks.

    Raises
    ------
    StackFailed
        If it did not become what was asked for; with the reason of the first resource that failed, and a hint.
    """
    first: Event | None = None
    while True:
        # The status first: events that come before it comes to rest are then all there to be shown.
        state = ask(cloud, stack, stack_id)
        for event in _news(cloud, stack_id, known):
            show(event)
            if event.failed and first is None:
                first = event
        assert state is not None, f"{stack_id} is known by its ID"
        if state.status in _DONE or not state.status.endswith("_IN_PROGRESS"):
            break
        time.sleep(poll)
    if state.status not in _DONE:
        raise StackFailedError(with_hint(_why(state, first)))
    return state


def _why(state: State, first: Event | None) -> str:
    if first is None:
        return f"{state.name} is {state.status}: {state.reason or 'AWS gives no reason'}"
    return f"{state.name} is {state.status}: {first.logical_id} ({first.type}): {first.reason}"


def _news(cloud: Cloud, stack_id: str, known: set[str]) -> list[Event]:
    news = []
    for event in _events(cloud, stack_id):
        if event.id in known:
            break
        news.append(event)
    known |= {event.id for event in news}
    return news[::-1]


def _events(cloud: Cloud, stack_id: str) -> Iterator[Event]:
    """Yield the newest first."""
    for page in cloud.formation.get_paginator("describe_stack_events").paginate(StackName=stack_id):
        yield from map(_event, page["StackEvents"])


def _event(item: StackEventTypeDef) -> Event:
    return Event(
        item["EventId"],
        item["Timestamp"],
        item.get("LogicalResourceId", ""),
        item.get("ResourceType", ""),
        item.get("ResourceStatus", ""),
        item.get("ResourceStatusReason", ""),
    )
