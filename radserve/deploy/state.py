"""What stacks are there, and how they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from botocore.exceptions import ClientError

from radserve.deploy import stacks
from radserve.deploy.cloud import Cloud, code, message
from radserve.deploy.settings import StackName

EMPTY: Final = frozenset({"REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE"})
"""Left over from a creation that was broken off or failed: nothing is in it, and nothing can be made of it."""

STUCK: Final = frozenset({"ROLLBACK_FAILED", "DELETE_FAILED", "CREATE_FAILED", "UPDATE_ROLLBACK_FAILED"})
"""Neither what was asked for nor what was there before."""


@dataclass(frozen=True)
class State:
    """One stack that is there.

    Attributes
    ----------
    id
        Its ARN, which names it even after it is deleted.
    reason
        Why it has its status, where AWS says so.
    """

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
        """Whether it is being changed."""
        return self.status.endswith("_IN_PROGRESS") and self.status not in EMPTY


def find(cloud: Cloud, environment: str, stack: StackName) -> State | None:
    """Ask about one stack; None if it is not there."""
    return ask(cloud, stack, stacks.name(environment, stack))


def find_all(cloud: Cloud, environment: str, wanted: Iterable[StackName] = stacks.ORDER) -> dict[StackName, State]:
    """Ask about the stacks of an environment, and return those that are there."""
    found = {stack: find(cloud, environment, stack) for stack in wanted}
    return {stack: state for stack, state in found.items() if state is not None}


def ask(cloud: Cloud, stack: StackName, name: str) -> State | None:
    """Ask about a stack by name or ID."""
    try:
        (found,) = cloud.formation.describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if code(error) == "ValidationError" and "does not exist" in message(error):
            return None
        raise
    return State(
        stack,
        found.get("StackId", name),
        found["StackName"],
        found["StackStatus"],
        found.get("StackStatusReason", ""),
        found.get("LastUpdatedTime", found["CreationTime"]),
        found.get("EnableTerminationProtection", False),
        {item["OutputKey"]: item["OutputValue"] for item in found.get("Outputs", [])},
    )


def outputs(states: Iterable[State]) -> dict[str, str]:
    """Collect the outputs of stacks, by name."""
    return {key: value for state in states for key, value in state.outputs.items()}
