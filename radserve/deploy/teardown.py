"""Teardown of an environment, in the reverse order of its creation, with the data that outlive a stack."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final

from botocore.exceptions import ClientError

from radserve.deploy import parameters, stack
from radserve.deploy.aws_clients import Cloud, error_code
from radserve.deploy.errors import CloudError, SettingsError, StackError
from radserve.deploy.failure_advice import with_advice
from radserve.deploy.plan import find_stacks
from radserve.deploy.settings import STACKS, Settings, StackName
from radserve.deploy.stack import Event, Stack

RETAINED: Final[frozenset[StackName]] = frozenset({"storage", "secrets"})
"""Stacks with data that outlive them: models, images and keys."""
TEMPORARY: Final[frozenset[StackName]] = frozenset({"front"})
"""Stacks with a bucket that is deleted with them, and must be empty before."""
_RECOVERY_DAYS: Final = 30
"""Days in which a deleted secret or key can be restored; 30 is the maximum of AWS."""
_GONE: Final = frozenset(
    {"NoSuchBucket", "404", "RepositoryNotFoundException", "ResourceNotFoundException", "NotFoundException"}
)


@dataclass(frozen=True)
class Teardown:
    """Stacks to delete, in this order, and stacks to keep."""

    deleted: tuple[Stack, ...]
    kept: tuple[Stack, ...]

    @property
    def deletes_data(self) -> bool:
        """Whether models, images or keys are deleted."""
        return any(item.stack in RETAINED for item in self.deleted)


def plan(cloud: Cloud, settings: Settings, only: Collection[str], *, data: bool) -> Teardown:
    """Determine which stacks to delete: those in `only`, or all; those that hold data only with `data`.

    Raises SettingsError for an unknown name, and StackError if a stack is being changed, is protected, or a remaining
    one needs it.
    """
    if unknown := sorted(set(only) - set(STACKS)):
        raise SettingsError(f"Unknown stack {unknown[0]!r}. Available: {', '.join(STACKS)}.")
    stacks = find_stacks(cloud, settings)
    selected = [item for name, item in reversed(stacks.items()) if not only or name in only]
    deleted = tuple(item for item in selected if data or item.stack not in RETAINED)
    for item in deleted:
        if item.busy:
            raise StackError(f"{item.name} is {item.status}: another change is in progress.")
        if item.protected:
            raise StackError(with_advice(f"{item.name} has termination protection"))
        remaining = set(stacks) - {other.stack for other in deleted}
        if users := sorted(remaining & parameters.dependents(item.stack)):
            raise StackError(f"{item.name} is needed by {', '.join(users)}: destroy that too.")
    return Teardown(deleted, tuple(item for item in selected if item not in deleted))


def destroy(cloud: Cloud, teardown: Teardown) -> Iterator[str | Event]:
    """Delete stacks and yield progress: lines, and events of resources.

    If a stack could not be deleted, those that it needs are kept.
    """
    for item in teardown.deleted:
        holds_data = item.stack in RETAINED | TEMPORARY
        resources = _resources(cloud, item.id) if holds_data else {}
        for bucket in resources.get("AWS::S3::Bucket", []):
            yield from _ignore_missing(_empty_bucket, cloud, bucket)
        yield f"{item.name}:"
        yield from stack.delete(cloud, item)
        if item.stack in RETAINED:
            for type_, delete in _DELETE.items():
                for identifier in resources.get(type_, []):
                    yield from _ignore_missing(delete, cloud, identifier)


def _resources(cloud: Cloud, stack_id: str) -> dict[str, list[str]]:
    """Return the physical IDs of a stack's resources, by type."""
    resources = defaultdict(list)
    for page in cloud.formation.get_paginator("list_stack_resources").paginate(StackName=stack_id):
        for item in page["StackResourceSummaries"]:
            if identifier := item.get("PhysicalResourceId"):
                resources[item["ResourceType"]].append(identifier)
    return resources


def _ignore_missing(delete: Callable[[Cloud, str], str], cloud: Cloud, identifier: str) -> Iterator[str]:
    """Yield the note of a deletion; nothing if the resource does not exist."""
    try:
        yield delete(cloud, identifier)
    except ClientError as error:
        if error_code(error) not in _GONE:
            raise


def _empty_bucket(cloud: Cloud, bucket: str) -> str:
    responses = cloud.buckets.Bucket(bucket).object_versions.delete()
    if errors := [error for response in responses for error in response.get("Errors", [])]:
        raise CloudError(f"Cannot delete {bucket}/{errors[0].get('Key')}: {errors[0].get('Message')}")
    count = sum(len(response.get("Deleted", [])) for response in responses)
    return f"{bucket}: {count} objects and old versions deleted"


def _delete_bucket(cloud: Cloud, bucket: str) -> str:
    _empty_bucket(cloud, bucket)  # access logs may have arrived since the first time
    cloud.s3.delete_bucket(Bucket=bucket)
    return f"{bucket}: deleted"


def _delete_repository(cloud: Cloud, repository: str) -> str:
    cloud.ecr.delete_repository(repositoryName=repository, force=True)
    return f"{repository}: deleted with all images"


def _delete_secret(cloud: Cloud, secret: str) -> str:
    cloud.secrets.delete_secret(SecretId=secret, RecoveryWindowInDays=_RECOVERY_DAYS)
    return f"{secret}: permanently deleted in {_RECOVERY_DAYS} days; until then its name is in use"


def _delete_key(cloud: Cloud, key: str) -> str:
    cloud.kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=_RECOVERY_DAYS)
    return f"key {key}: permanently deleted in {_RECOVERY_DAYS} days"


_DELETE: Final = {
    "AWS::S3::Bucket": _delete_bucket,
    "AWS::ECR::Repository": _delete_repository,
    "AWS::SecretsManager::Secret": _delete_secret,
    "AWS::KMS::Key": _delete_key,
}
