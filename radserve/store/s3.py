"""A store in a bucket of S3, or of whatever speaks its protocol with conditional writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from radserve.errors import CorruptDataError, IndexConflictError, InterruptedTransferError, MissingBlobError, StoreError
from radserve.store import aws, repeat, upload
from radserve.store.backend import BLOBS, CHUNK, INDEX, LARGEST_INDEX, Blob, Document, Download, Leftover, Progress

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

ATTEMPTS: Final = 8
"""Of one request; boto3 waits longer and longer in between (mode "standard")."""


class Bucket:
    """A bucket, or a folder of one; credentials, region and endpoint come by boto3's usual chain."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.name = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    @cached_property
    def _s3(self) -> S3Client:
        import boto3  # a third of a second that only those who keep archives there pay
        from botocore.config import Config

        retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
        config = Config(retries=retries, connect_timeout=5, read_timeout=60)  # type: ignore[arg-type]
        with aws.explained(self.name):
            return boto3.session.Session().client("s3", config=config)

    def read_index(self) -> Document | None:
        """Return the index."""
        return repeat.until_whole(self._read_index)

    def _read_index(self) -> Document | None:
        from botocore.exceptions import ClientError, FlexibleChecksumError, HTTPClientError, IncompleteReadError

        with aws.explained(self.name):
            try:
                answer = self._s3.get_object(Bucket=self._bucket, Key=self._key(INDEX))
            except ClientError as error:
                if aws.code(error) in aws.MISSING:
                    return None
                raise
            if answer["ContentLength"] > LARGEST_INDEX:
                raise StoreError(f"{self.name}/{INDEX}: has {answer['ContentLength']} bytes, too many for an index.")
            try:
                return Document(answer["Body"].read(), answer["ETag"])
            except (FlexibleChecksumError, HTTPClientError, IncompleteReadError) as error:
                raise InterruptedTransferError(f"{self.name}/{INDEX}: {error}") from error

    def write_index(self, data: bytes, tag: str | None) -> None:
        """Replace the index by a conditional write."""
        from botocore.exceptions import ClientError

        condition: dict[str, Any] = {"IfMatch": tag} if tag else {"IfNoneMatch": "*"}
        with aws.explained(self.name):
            try:
                self._s3.put_object(
                    Bucket=self._bucket,
                    Key=self._key(INDEX),
                    Body=data,
                    ContentType="application/json",
                    CacheControl="no-cache",
                    **condition,
                )
            except ClientError as error:
                if aws.code(error) in aws.CONFLICTS | aws.MISSING:
                    raise IndexConflictError(f"{self.name}: its index was changed by another one.") from error
                raise

    def stat(self, sha256: str) -> Blob | None:
        """Look for a blob."""
        from botocore.exceptions import ClientError

        with aws.explained(self.name):
            try:
                found = self._s3.head_object(Bucket=self._bucket, Key=self._blob(sha256))
            except ClientError as error:
                if aws.code(error) in aws.MISSING:
                    return None
                raise
        return Blob(sha256, found["ContentLength"], found["LastModified"])

    def holds(self, sha256: str, size: int) -> bool:
        """Whether the blob is there with the right size, and with the sum that S3 took itself, where it did."""
        from botocore.exceptions import ClientError

        with aws.explained(self.name):
            try:
                found = self._s3.head_object(Bucket=self._bucket, Key=self._blob(sha256), ChecksumMode="ENABLED")
            except ClientError as error:
                if aws.code(error) in aws.MISSING:
                    return False
                raise
        summed = found.get("ChecksumSHA256", "")
        return found["ContentLength"] == size and (not summed or "-" in summed or summed == upload.encoded(sha256))

    def put(self, sha256: str, source: Path, progress: Progress) -> None:
        """Upload a file: at once, or in parts that a later push goes on with."""
        with aws.explained(self.name):
            if source.stat().st_size <= upload.PART:
                upload.put_whole(self._s3, self._bucket, self._blob(sha256), sha256, source, progress)
            else:
                upload.Upload(self._s3, self._bucket, self._blob(sha256), source).run(sha256, progress)

    @contextmanager
    def open(self, sha256: str, start: int, tag: str | None) -> Iterator[Download]:
        """Begin to read a blob."""
        from botocore.exceptions import ClientError, FlexibleChecksumError, HTTPClientError, IncompleteReadError

        wanted: dict[str, Any] = ({"Range": f"bytes={start}-"} if start else {}) | ({"IfMatch": tag} if tag else {})
        with aws.explained(self.name):
            try:
                answer = self._s3.get_object(
                    Bucket=self._bucket,
                    Key=self._blob(sha256),
                    **wanted,
                )
            except ClientError as error:
                raise self._unreadable(error, sha256) or error from error
            begins, size = 0, answer["ContentLength"]
            if "ContentRange" in answer:
                begins, size = start, int(answer["ContentRange"].rpartition("/")[2])
            with closing(answer["Body"]) as body:
                try:
                    yield Download(size, begins, answer["ETag"], body.iter_chunks(CHUNK))
                except FlexibleChecksumError as error:
                    raise CorruptDataError(f"{self.name}/{BLOBS}/{sha256}: {error}") from error
                except (HTTPClientError, IncompleteReadError) as error:
                    raise InterruptedTransferError(f"{self.name}: {error}") from error

    def _unreadable(self, error: Exception, sha256: str) -> StoreError | None:
        if aws.code(error) in aws.MISSING:
            return MissingBlobError(f"{self.name}/{BLOBS}/{sha256}: missing.")
        if aws.code(error) in aws.CONFLICTS | {"InvalidRange", "416"}:
            return CorruptDataError(f"{self.name}/{BLOBS}/{sha256}: was replaced while it was read, or is too short.")
        return None

    def blobs(self) -> Iterator[Blob]:
        """List all blobs."""
        prefix = self._key(f"{BLOBS}/")
        with aws.explained(self.name):
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                for item in page.get("Contents", []):
                    yield Blob(item["Key"].removeprefix(prefix), item["Size"], item["LastModified"])

    def delete(self, sha256: str) -> None:
        """Remove a blob."""
        with aws.explained(self.name):
            self._s3.delete_object(Bucket=self._bucket, Key=self._blob(sha256))

    def leftovers(self) -> Iterator[Leftover]:
        """List uploads that did not come to an end."""
        pages = self._s3.get_paginator("list_multipart_uploads")
        with aws.explained(self.name):
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._key(f"{BLOBS}/")):
                for item in page.get("Uploads", []):
                    yield Leftover(f"{item['Key']} {item['UploadId']}", item["Initiated"])

    def discard(self, leftover: Leftover) -> None:
        """Give such an upload up."""
        key, _, identity = leftover.key.rpartition(" ")
        with aws.explained(self.name):
            self._s3.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=identity)

    def _key(self, path: str) -> str:
        return f"{self._prefix}{path}"

    def _blob(self, sha256: str) -> str:
        return self._key(f"{BLOBS}/{sha256}")
