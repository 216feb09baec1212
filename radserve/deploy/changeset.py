"""Change sets: what CloudFormation would do, before it does."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from botocore.exceptions import ClientError

from radserve.deploy.cloud import Cloud, code, message
from radserve.deploy.errors import StackFailedError
from radserve.deploy.hints import with_hint
from radserve.deploy.state import State
from radserve.deploy.template import Template

if TYPE_CHECKING:
    from types_boto3_cloudformation.type_defs import ChangeTypeDef, DescribeChangeSetOutputTypeDef

_POLL: Final = 1.0
_NOTHING: Final = ("didn't contain changes", "No updates are to be performed")


@dataclass(frozen=True, order=True)
class Change:
    """What would happen to one resource.

    Attributes
    ----------
    action
        Add, Modify, Remove, Import or Dynamic.
    replacement
        True, False, Conditional, or empty where the question does not arise.
    """

    logical_id: str
    type: str
    action: str
    replacement: str = ""


@dataclass(frozen=True)
class ChangeSet:
    """One that waits at AWS to be executed or deleted."""

    id: str
    stack_id: str
    kind: Literal["CREATE", "UPDATE"]
    changes: tuple[Change, ...]


def create(
    cloud: Cloud,
    name: str,
    template: Template,
    parameters: Mapping[str, str],
    tags: Mapping[str, str],
    there: State | None,
) -> ChangeSet | None:
    """Ask what would change of a stack; None where nothing would.

    Raises
    ------
    StackFailed
        If CloudFormation says why it cannot.
    """
    kind: Literal["CREATE", "UPDATE"] = "UPDATE" if there else "CREATE"
    try:
        made = cloud.formation.create_change_set(
            StackName=name,
            ChangeSetName=f"radserve-{uuid.uuid4().hex}",
            ChangeSetType=kind,
            TemplateBody=template.body,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
    except ClientError as error:
        if code(error) == "ValidationError" and _says_nothing(message(error)):
            return None
        raise
    return _finished(cloud, made["Id"], made["StackId"], kind)


def delete(cloud: Cloud, change_set: ChangeSet) -> None:
    """Take a change set back, and with it the empty stack that one for a creation comes with."""
    cloud.formation.delete_change_set(ChangeSetName=change_set.id, StackName=change_set.stack_id)
    if change_set.kind == "CREATE":
        remove(cloud, change_set.stack_id)


def remove(cloud: Cloud, stack_id: str) -> None:
    """Delete a stack that holds nothing, and wait until its name is free."""
    cloud.formation.delete_stack(StackName=stack_id)
    waiter = cloud.formation.get_waiter("stack_delete_complete")
    waiter.wait(StackName=stack_id, WaiterConfig={"Delay": 2, "MaxAttempts": 150})


def execute(cloud: Cloud, change_set: ChangeSet) -> None:
    """Let it happen."""
    cloud.formation.execute_change_set(ChangeSetName=change_set.id, StackName=change_set.stack_id)


def _finished(cloud: Cloud, identifier: str, stack_id: str, kind: Literal["CREATE", "UPDATE"]) -> ChangeSet | None:
    changes: list[ChangeTypeDef] = []
    page = _page(cloud, identifier, stack_id)
    while page["Status"] in {"CREATE_PENDING", "CREATE_IN_PROGRESS"}:
        time.sleep(_POLL)
        page = _page(cloud, identifier, stack_id)
    if page["Status"] == "FAILED":
        delete(cloud, ChangeSet(identifier, stack_id, kind, ()))
        reason = page.get("StatusReason", "no reason was given")
        if _says_nothing(reason):
            return None
        raise StackFailedError(with_hint(f"{page.get('StackName', stack_id)}: {reason}"))
    changes += page["Changes"]
    while token := page.get("NextToken"):
        page = _page(cloud, identifier, stack_id, token)
        changes += page["Changes"]
    return ChangeSet(identifier, stack_id, kind, tuple(sorted(map(_change, changes))))


def _page(cloud: Cloud, identifier: str, stack_id: str, token: str | None = None) -> DescribeChangeSetOutputTypeDef:
    if token is None:
        return cloud.formation.describe_change_set(ChangeSetName=identifier, StackName=stack_id)
    return cloud.formation.describe_change_set(ChangeSetName=identifier, StackName=stack_id, NextToken=token)


def _change(item: ChangeTypeDef) -> Change:
    found = item["ResourceChange"]
    return Change(found["LogicalResourceId"], found["ResourceType"], found["Action"], found.get("Replacement", ""))


def _says_nothing(reason: str) -> bool:
    return any(words in reason for words in _NOTHING)
