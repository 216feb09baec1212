"""An upload to S3: S3 checks the sum of each part, and a push that was interrupted is gone on with."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from radserve.errors import CorruptDataError, StoreError
from radserve.store import aws
from radserve.store.backend import Progress

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import CompletedPartTypeDef, PartTypeDef

PART: Final = 8 * 2**20
"""Bytes of a part; S3 takes 10,000 of at least 5 MiB."""
_RESTARTS: Final = 3


def encoded(sha256: str) -> str:
    """Return a sum as S3 writes it."""
    return base64.b64encode(bytes.fromhex(sha256)).decode()


def put_whole(s3: S3Client, bucket: str, key: str, sha256: str, source: Path, progress: Progress) -> None:
    """Upload a small file in one request.

    Raises
    ------
    Corrupt
        If the file has another sum.
    """
    data = source.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise CorruptDataError(f"{source}: changed while it was pushed.")
    progress(0, len(data))
    s3.put_object(Bucket=bucket, Key=key, Body=data, ChecksumAlgorithm="SHA256", ChecksumSHA256=encoded(sha256))
    progress(len(data), len(data))


class Upload:
    """A file's way into a bucket, in parts."""

    def __init__(self, s3: S3Client, bucket: str, key: str, source: Path) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._key = key
        self._source = source

    def run(self, sha256: str, progress: Progress) -> None:
        """Upload, or go on with the upload of an earlier push.

        Two pushes of the same file may share an upload: their parts are the same. Who is second to finish finds
        the upload gone and the object there.

        Raises
        ------
        Corrupt
            If the file has another sum.
        """
        from botocore.exceptions import ClientError

        for _ in range(_RESTARTS):
            identity, there = self._begun() or (self._begin(), {})
            try:
                self._finish(identity, there, sha256, progress)
            except ClientError as error:
                if aws.code(error) != "NoSuchUpload":
                    raise
                if self._complete():
                    return
            else:
                return
        raise StoreError(f"s3://{self._bucket}/{self._key}: the upload is given up by another one, again and again.")

    def _begin(self) -> str:
        begun = self._s3.create_multipart_upload(Bucket=self._bucket, Key=self._key, ChecksumAlgorithm="SHA256")
        return begun["UploadId"]

    def _begun(self) -> tuple[str, dict[int, PartTypeDef]] | None:
        """Find an upload that was not finished, and its parts by their number."""
        found = self._s3.list_multipart_uploads(Bucket=self._bucket, Prefix=self._key).get("Uploads", [])
        own = [item for item in found if item["Key"] == self._key]
        newest = max(own, key=lambda item: item["Initiated"], default=None)
        if newest is None:
            return None
        lister = self._s3.get_paginator("list_parts")
        pages = lister.paginate(Bucket=self._bucket, Key=self._key, UploadId=newest["UploadId"])
        return newest["UploadId"], {part["PartNumber"]: part for page in pages for part in page.get("Parts", [])}

    def _finish(self, identity: str, there: dict[int, PartTypeDef], sha256: str, progress: Progress) -> None:
        total, done, size = hashlib.sha256(), 0, self._source.stat().st_size
        parts: list[CompletedPartTypeDef] = []
        progress(0, size)
        for number, data in enumerate(self._pieces(), 1):
            total.update(data)
            summed = encoded(hashlib.sha256(data).hexdigest())
            held = there.get(number)
            tag = held["ETag"] if held and _same(held, data, summed) else self._send(identity, number, data, summed)
            parts.append({"PartNumber": number, "ETag": tag, "ChecksumSHA256": summed})
            done += len(data)
            progress(done, size)
        if total.hexdigest() != sha256:
            self._s3.abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=identity)
            raise CorruptDataError(f"{self._source}: changed while it was pushed.")
        self._s3.complete_multipart_upload(
            Bucket=self._bucket, Key=self._key, UploadId=identity, MultipartUpload={"Parts": parts}
        )

    def _send(self, identity: str, number: int, data: bytes, summed: str) -> str:
        sent = self._s3.upload_part(
            Bucket=self._bucket,
            Key=self._key,
            UploadId=identity,
            PartNumber=number,
            Body=data,
            ChecksumAlgorithm="SHA256",
            ChecksumSHA256=summed,
        )
        return sent["ETag"]

    def _pieces(self) -> Iterator[bytes]:
        with self._source.open("rb") as file:
            yield from iter(lambda: file.read(PART), b"")

    def _complete(self) -> bool:
        from botocore.exceptions import ClientError

        try:
            found = self._s3.head_object(Bucket=self._bucket, Key=self._key)
        except ClientError as error:
            if aws.code(error) in aws.MISSING:
                return False
            raise
        return found["ContentLength"] == self._source.stat().st_size


def _same(held: PartTypeDef, data: bytes, summed: str) -> bool:
    """Whether a part is there already: by its sum, or where a store lists none by its ETag, which mostly is its MD5."""
    if "ChecksumSHA256" in held:
        return held["ChecksumSHA256"] == summed
    return held["ETag"].strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest()
