"""What outlives its stack: buckets, image repositories, secrets, keys; and how it is deleted where that is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Self

from botocore.exceptions import ClientError

from radserve.deploy.cloud import Cloud, code
from radserve.deploy.errors import CloudError

_WAIT_DAYS: Final = 30
"""Days in which a secret or a key can be had back; 30 is the most that AWS offers."""
_GONE: Final = frozenset(
    {"NoSuchBucket", "404", "RepositoryNotFoundException", "ResourceNotFoundException", "NotFoundException"}
)


@dataclass(frozen=True)
class Data:
    """Physical IDs of what a stack holds, by kind."""

    buckets: tuple[str, ...]
    repositories: tuple[str, ...]
    secrets: tuple[str, ...]
    keys: tuple[str, ...]

    @classmethod
    def of(cls, cloud: Cloud, stack_id: str) -> Self:
        """Look up what a stack holds."""
        found = [
            (item["ResourceType"], item.get("PhysicalResourceId", ""))
            for page in cloud.formation.get_paginator("list_stack_resources").paginate(StackName=stack_id)
            for item in page["StackResourceSummaries"]
        ]

        def kind(name: str) -> tuple[str, ...]:
            return tuple(identifier for type_, identifier in found if type_ == name and identifier)

        return cls(
            kind("AWS::S3::Bucket"),
            kind("AWS::ECR::Repository"),
            kind("AWS::SecretsManager::Secret"),
            kind("AWS::KMS::Key"),
        )

    def empty(self, cloud: Cloud, note: Callable[[str], None]) -> None:
        """Delete everything in buckets and repositories, old versions among it."""
        for bucket in self.buckets:
            with _gone_is_fine():
                note(f"{bucket}: {_empty_bucket(cloud, bucket)} objects and old versions deleted")
        for repository in self.repositories:
            with _gone_is_fine():
                note(f"{repository}: {_empty_repository(cloud, repository)} images deleted")

    def delete(self, cloud: Cloud, note: Callable[[str], None]) -> None:
        """Delete what is left when the stack is gone; secrets and keys can be had back for 30 days."""
        for bucket in self.buckets:
            with _gone_is_fine():
                # What was logged since it was emptied.
                _empty_bucket(cloud, bucket)
                cloud.s3.delete_bucket(Bucket=bucket)
        for repository in self.repositories:
            with _gone_is_fine():
                cloud.ecr.delete_repository(repositoryName=repository)
        for secret in self.secrets:
            with _gone_is_fine():
                cloud.secrets.delete_secret(SecretId=secret, RecoveryWindowInDays=_WAIT_DAYS)
                note(f"{secret}: deleted for good in {_WAIT_DAYS} days; until then its name is taken")
        for key in self.keys:
            with _gone_is_fine():
                cloud.kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=_WAIT_DAYS)
                note(f"key {key}: deleted for good in {_WAIT_DAYS} days")


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    """Whoever deletes is content with what is not there."""
    try:
        yield
    except ClientError as error:
        if code(error) not in _GONE:
            raise


def _empty_bucket(cloud: Cloud, bucket: str) -> int:
    count = 0
    for page in cloud.s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        if not found:
            continue
        done = cloud.s3.delete_objects(
            Bucket=bucket,
            Delete={"Objects": [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in found], "Quiet": True},
        )
        if errors := done.get("Errors"):
            raise CloudError(f"{bucket}/{errors[0].get('Key')} cannot be deleted: {errors[0].get('Message')}")
        count += len(found)
    return count


def _empty_repository(cloud: Cloud, repository: str) -> int:
    count = 0
    for page in cloud.ecr.get_paginator("list_images").paginate(
        repositoryName=repository, PaginationConfig={"PageSize": 100}
    ):
        # Images of one digest and several tags go by the digest, all at once.
        digests = sorted({item["imageDigest"] for item in page["imageIds"]})
        if not digests:
            continue
        done = cloud.ecr.batch_delete_image(
            repositoryName=repository, imageIds=[{"imageDigest": digest} for digest in digests]
        )
        if failures := [item for item in done["failures"] if item.get("failureCode") != "ImageNotFound"]:
            raise CloudError(f"{repository}: an image cannot be deleted: {failures[0].get('failureReason')}")
        count += len(digests)
    return count
