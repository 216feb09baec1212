"""The package of the front's function: named by its checksum, and uploaded where the stack takes it from."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from botocore.exceptions import ClientError

from radserve.deploy.cloud import Cloud, code
from radserve.deploy.errors import SettingsError
from radserve.deploy.settings import Settings


@dataclass(frozen=True)
class Package:
    """A zip on this machine. Its key says what is in it: another package is another key, which the stack sees."""

    path: Path
    digest: bytes

    @property
    def key(self) -> str:
        """Where it belongs in the bucket."""
        return f"packages/{self.digest.hex()}.zip"


def of(settings: Settings) -> Package:
    """Read the package that settings name.

    Raises
    ------
    SettingsError
        If it is no package.
    """
    path = settings.package
    if not zipfile.is_zipfile(path):
        raise SettingsError(f"package has value {str(path)!r}, which is no zip: make one with scripts/build-lambda.")
    with path.open("rb") as file:
        return Package(path, hashlib.file_digest(file, "sha256").digest())


def parameters(settings: Settings) -> dict[str, str]:
    """Return the parameters of the front's template that neither the settings nor another stack give.

    Raises
    ------
    SettingsError
        If the package is none.
    """
    key = {"PackageKey": of(settings).key if settings.front == "zip" else ""}
    return key if settings.has("network") else key | {"VpcId": "", "PrivateSubnets": ""}


def upload(cloud: Cloud, bucket: str, package: Package, note: Callable[[str], None]) -> None:
    """Put a package into a bucket, if it is not there; S3 holds what arrives against the checksum."""
    try:
        cloud.s3.head_object(Bucket=bucket, Key=package.key)
    except ClientError as error:
        if code(error) not in {"404", "NoSuchKey", "NotFound"}:
            raise
    else:
        return
    checksum = base64.b64encode(package.digest).decode()
    with package.path.open("rb") as file:
        cloud.s3.put_object(Bucket=bucket, Key=package.key, Body=file, ChecksumSHA256=checksum)
    note(f"{package.path}: uploaded to s3://{bucket}/{package.key}")
