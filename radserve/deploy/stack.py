"""CloudFormation stacks: state, change sets and events."""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

from botocore.exceptions import ClientError, WaiterError

from radserve.deploy.aws_clients import Cloud, error_code, error_text
from radserve.deploy.errors import StackError
from radserve.deploy.failure_advice import with_advice
from radserve.deploy.settings import StackName
from radserve.deploy.template import Template

if TYPE_CHECKING:
    from types_boto3_cloudformation.type_defs import ChangeTypeDef, StackEventTypeDef

EMPTY: Final = frozenset({"REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE"})
"""Remains of a creation that was interrupted or failed: without resources, and cannot be updated."""
STUCK: Final = frozenset({"ROLLBACK_FAILED", "DELETE_FAILED", "CREATE_FAILED", "UPDATE_ROLLBACK_FAILED"})
"""Neither the new nor the previous state was reached."""
_SUCCESS: Final = frozenset(
    {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "DELETE_COMPLETE"}
)
_NO_CHANGES: Final = ("didn't contain changes", "No updates are to be performed")
_POLL: Final = 3.0


@dataclass(frozen=True)
class Stack:
    """State of an existing stack; `id` is its ARN, which identifies it even after its deletion."""

    stack: StackName
    id: str
    name: str
    status: str
    reason: str
    changed: datetime
    protected: bool
    outputs: dict[str, str]

    @property
    def busy(self) -> bool:
        """Whether a change is in progress."""
        return self.status.endswith("_IN_PROGRESS") and self.status not in EMPTY


@dataclass(frozen=True, order=True)
class Change:
    """Change of one resource.

    `action` is Add, Modify, Remove, Import or Dynamic; `replacement` True, False, Conditional, or empty if not
    applicable.
    """

    logical_id: str
    type: str
    action: str
    replacement: str = ""


@dataclass(frozen=True)
class ChangeSet:
    """Change set in CloudFormation, not executed yet."""

    id: str
    stack_id: str
    kind: Literal["CREATE", "UPDATE"]
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Event:
    """Status change of one resource."""

    id: str
    time: datetime
    logical_id: str
    type: str
    status: str
    reason: str

    @property
    def failed(self) -> bool:
        """Whether the resource failed for its own reason, not because another one did."""
        return self.status.endswith("_FAILED") and "cancelled" not in self.reason


def describe(cloud: Cloud, stack: StackName, name: str) -> Stack | None:
    """Look up a stack by name or ID; None if it does not exist."""
    try:
        (item,) = cloud.formation.describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if error_code(error) == "ValidationError" and "does not exist" in error_text(error):
            return None
        raise
    return Stack(
        stack,
        item.get("StackId", name),
        item["StackName"],
        item["StackStatus"],
        item.get("StackStatusReason", ""),
        item.get("LastUpdatedTime", item["CreationTime"]),
        item.get("EnableTerminationProtection", False),
        {output["OutputKey"]: output["OutputValue"] for output in item.get("Outputs", [])},
    )


def create_change_set(
    cloud: Cloud, name: str, template: Template, parameters: Mapping[str, str], tags: Mapping[str, str], *, new: bool
) -> ChangeSet | None:
    """Create a change set; None if nothing would change. For a `new` stack, CloudFormation adds an empty one."""
    kind: Literal["CREATE", "UPDATE"] = "CREATE" if new else "UPDATE"
    try:
        response = cloud.formation.create_change_set(
            StackName=name,
            ChangeSetName=f"radserve-{uuid.uuid4().hex}",
            ChangeSetType=kind,
            TemplateBody=template.body,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
    except ClientError as error:
        if error_code(error) == "ValidationError" and any(text in error_text(error) for text in _NO_CHANGES):
            return None
        raise
    change_set = ChangeSet(response["Id"], response["StackId"], kind)
    try:
        cloud.formation.get_waiter("change_set_create_complete").wait(
            ChangeSetName=change_set.id, StackName=change_set.stack_id, WaiterConfig={"Delay": 1, "MaxAttempts": 600}
        )
    except WaiterError as error:
        delete_change_set(cloud, change_set)
        reason = error.last_response.get("StatusReason", str(error))
        if any(text in reason for text in _NO_CHANGES):
            return None
        raise StackError(with_advice(f"{name}: {reason}")) from error
    pages = cloud.formation.get_paginator("describe_change_set").paginate(
        ChangeSetName=change_set.id, StackName=change_set.stack_id
    )
    changes = sorted(_change(item) for page in pages for item in page["Changes"])
    return ChangeSet(change_set.id, change_set.stack_id, kind, tuple(changes))


def delete_change_set(cloud: Cloud, change_set: ChangeSet) -> None:
    """Delete a change set, and the empty stack that was added for a creation."""
    cloud.formation.delete_change_set(ChangeSetName=change_set.id, StackName=change_set.stack_id)
    if change_set.kind == "CREATE":
        delete_empty(cloud, change_set.stack_id)


def delete_empty(cloud: Cloud, stack_id: str) -> None:
    """Delete a stack without resources, and wait until its name is free."""
    cloud.formation.delete_stack(StackName=stack_id)
    waiter = cloud.formation.get_waiter("stack_delete_complete")
    waiter.wait(StackName=stack_id, WaiterConfig={"Delay": 2, "MaxAttempts": 150})


def execute(cloud: Cloud, stack: StackName, change_set: ChangeSet) -> Generator[Event, None, Stack]:
    """Execute a change set; see `follow`."""
    known = event_ids(cloud, change_set.stack_id)
    cloud.formation.execute_change_set(ChangeSetName=change_set.id, StackName=change_set.stack_id)
    return (yield from follow(cloud, stack, change_set.stack_id, known))


def delete(cloud: Cloud, stack: Stack) -> Generator[Event, None, Stack]:
    """Delete a stack; see `follow`."""
    known = event_ids(cloud, stack.id)
    cloud.formation.delete_stack(StackName=stack.id)
    return (yield from follow(cloud, stack.stack, stack.id, known))


def event_ids(cloud: Cloud, stack_id: str) -> set[str]:
    """Return the IDs of a stack's events up to now."""
    return {event.id for event in _events(cloud, stack_id)}


def follow(
    cloud: Cloud, stack: StackName, stack_id: str, known: set[str], poll: float = _POLL
) -> Generator[Event, None, Stack]:
    """Yield the events of a change, except `known` ones, until it has ended, and return the stack's state.

    Raises StackError if the change failed, with the reason of the first resource that failed, and a hint.
    """
    failure: Event | None = None
    while True:
        # The status before the events: once it is final, the events are complete.
        state = describe(cloud, stack, stack_id)
        assert state is not None, f"{stack_id} is known by its ID"
        events = []
        for event in _events(cloud, stack_id):
            if event.id in known:
                break
            events.append(event)
        for event in reversed(events):
            known.add(event.id)
            failure = failure or (event if event.failed else None)
            yield event
        if state.status in _SUCCESS:
            return state
        if not state.status.endswith("_IN_PROGRESS"):
            reason = state.reason or "AWS gives no reason"
            if failure:
                reason = f"{failure.logical_id} ({failure.type}): {failure.reason}"
            raise StackError(with_advice(f"{state.name} is {state.status}: {reason}"))
        time.sleep(poll)


def _events(cloud: Cloud, stack_id: str) -> Iterator[Event]:
    """Yield the events of a stack, the newest first."""
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


def _change(item: ChangeTypeDef) -> Change:
    resource = item["ResourceChange"]
    return Change(
        resource["LogicalResourceId"], resource["ResourceType"], resource["Action"], resource.get("Replacement", "")
    )
