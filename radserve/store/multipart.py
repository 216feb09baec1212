"""Multipart uploads to S3 that a later push can resume; obstore can neither resume, list nor abort them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from radserve.errors import CorruptDataError, StoreError
from radserve.store import aws, object_storage

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import CompletedPartTypeDef, PartTypeDef

_ATTEMPTS: Final = 3


def upload(name: str, bucket: str, key: str, source: Path, sha256: str, progress: object_storage.Progress) -> None:
    """Upload a file in parts, each verified by S3; continue the upload of an earlier push if there is one.

    Two pushes of the same file may share an upload, since their parts are equal. The second one to complete it finds
    the upload gone and the object there.
    """
    from botocore.exceptions import ClientError

    s3 = aws.boto3_client(name)
    with aws.errors(name):
        for _ in range(_ATTEMPTS):
            upload_id, parts = _resumable(s3, bucket, key)
            try:
                return _complete(s3, bucket, key, upload_id, parts, source, sha256, progress)
            except CorruptDataError:
                s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
                raise
            except ClientError as error:
                if aws.error_code(error) != "NoSuchUpload":
                    raise
                if _size(s3, bucket, key) == source.stat().st_size:
                    return None
    raise StoreError(f"{name}/{key}: other processes keep aborting the upload; try again later.")


def unfinished(name: str, bucket: str, prefix: str) -> Iterator[tuple[str, str, datetime]]:
    """Yield key, upload id and start of every upload that was not completed."""
    with aws.errors(name):
        pages = aws.boto3_client(name).get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
        for page in pages:
            for item in page.get("Uploads", []):
                yield item["Key"], item["UploadId"], item["Initiated"]


def abort(name: str, bucket: str, key: str, upload_id: str) -> None:
    """Abort an upload and delete its parts."""
    with aws.errors(name):
        aws.boto3_client(name).abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)


def _resumable(s3: S3Client, bucket: str, key: str) -> tuple[str, dict[int, PartTypeDef]]:
    """Return the newest unfinished upload of a key and its parts by number; start one if necessary."""
    uploads = s3.list_multipart_uploads(Bucket=bucket, Prefix=key).get("Uploads", [])
    own = [item for item in uploads if item["Key"] == key]
    if not own:
        return s3.create_multipart_upload(Bucket=bucket, Key=key, ChecksumAlgorithm="SHA256")["UploadId"], {}
    upload_id = max(own, key=lambda item: item["Initiated"])["UploadId"]
    pages = s3.get_paginator("list_parts").paginate(Bucket=bucket, Key=key, UploadId=upload_id)
    return upload_id, {part["PartNumber"]: part for page in pages for part in page.get("Parts", [])}


def _complete(
    s3: S3Client,
    bucket: str,
    key: str,
    upload_id: str,
    stored: dict[int, PartTypeDef],
    source: Path,
    sha256: str,
    progress: object_storage.Progress,
) -> None:
    parts: list[CompletedPartTypeDef] = []
    with source.open("rb") as file:
        for number, data in enumerate(
            object_storage.verified_chunks(file, object_storage.PART_SIZE, sha256, progress), 1
        ):
            checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
            part = stored.get(number)
            if part and _equal(part, data, checksum):
                e_tag = part["ETag"]
            else:
                e_tag = s3.upload_part(
                    Bucket=bucket,
                    Key=key,
                    UploadId=upload_id,
                    PartNumber=number,
                    Body=data,
                    ChecksumAlgorithm="SHA256",
                    ChecksumSHA256=checksum,
                )["ETag"]
            parts.append({"PartNumber": number, "ETag": e_tag, "ChecksumSHA256": checksum})
    s3.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts})


def _equal(part: PartTypeDef, data: bytes, checksum: str) -> bool:
    """Compare a stored part by its checksum; services that list none have its MD5 as ETag."""
    if "ChecksumSHA256" in part:
        return part["ChecksumSHA256"] == checksum
    return part["ETag"].strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest()


def _size(s3: S3Client, bucket: str, key: str) -> int | None:
    from botocore.exceptions import ClientError

    try:
        return s3.head_object(Bucket=bucket, Key=key)["ContentLength"]
    except ClientError as error:
        if aws.error_code(error) in ("404", "NoSuchKey", "NotFound"):
            return None
        raise
