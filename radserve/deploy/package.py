"""Lambda package of the front: its key in the bucket is its checksum, so a changed package is a changed stack."""

import base64
import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from botocore.exceptions import ClientError

from radserve.deploy.aws_clients import Cloud, error_code
from radserve.deploy.errors import SettingsError


@dataclass(frozen=True)
class Package:
    """Zip file on this machine and its SHA-256 digest."""

    path: Path
    digest: bytes

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a package; raise SettingsError if the file is missing or not a zip."""
        if not zipfile.is_zipfile(path):
            raise SettingsError(f"package has value {str(path)!r}, not a zip file: run scripts/build-lambda.")
        with path.open("rb") as file:
            return cls(path, hashlib.file_digest(file, "sha256").digest())

    @property
    def key(self) -> str:
        """Key in the bucket."""
        return f"packages/{self.digest.hex()}.zip"

    def upload(self, cloud: Cloud, bucket: str) -> Iterator[str]:
        """Upload the package unless the bucket has it, and yield a note; S3 verifies the checksum."""
        try:
            cloud.s3.head_object(Bucket=bucket, Key=self.key)
        except ClientError as error:
            if error_code(error) not in {"404", "NoSuchKey", "NotFound"}:
                raise
            checksum = base64.b64encode(self.digest).decode()
            with self.path.open("rb") as file:
                cloud.s3.put_object(Bucket=bucket, Key=self.key, Body=file, ChecksumSHA256=checksum)
            yield f"{self.path}: uploaded to s3://{bucket}/{self.key}"
