"""Uploads of large images: clients send them to a bucket with a presigned form, and refer to them by key."""

import asyncio
import hashlib
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from gateway.access import Caller
from gateway.errors import ContentTooLargeError, GatewayTimeoutError, NotAllowedError, SettingsError
from gateway.settings import Settings
from gateway.uploads import s3
from gateway.uploads.request_body import RequestBody

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_LOCATION: Final = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<prefix>[\w-]+(/[\w-]+)*)/?", re.ASCII
)
_FORM_LIFETIME: Final = timedelta(minutes=10)
"""Time to start the upload; the upload itself may take longer."""
_TIMEOUT_SHARE: Final = 0.5
"""Share of `Settings.timeout` for reading an upload; the model server has its own timeout after it."""
_CHUNK: Final = 1024 * 1024
_UNTYPED: Final = "binary/octet-stream"
"""Content type that S3 assigns to objects without one."""

T = TypeVar("T")


@dataclass(frozen=True)
class PresignedForm:
    """Form that uploads one file: `fields` in this order, then the file; predictions accept the key `object`."""

    object: str
    url: str
    fields: dict[str, str]
    expires: datetime
    max_bytes: int


class UploadStore:
    """Folder of an S3 bucket whose objects are deleted after a day.

    A key is PREFIX/OWNER/ID. The owner is a digest of the caller's name and the id is random: keys cannot be guessed,
    and the key of another caller cannot be used. Objects have at most `max_bytes` and are read within `timeout`
    seconds.
    """

    def __init__(self, bucket: str, prefix: str, max_bytes: int, timeout: float) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._max_bytes = max_bytes
        self._timeout = timeout

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """Return the store that settings describe, None if uploads are disabled; raises SettingsError."""
        if not settings.uploads:
            return None
        match = _LOCATION.fullmatch(settings.uploads)
        if match is None:
            raise SettingsError(
                f"RADSERVE_GATEWAY_UPLOADS has value {settings.uploads!r}; use s3://BUCKET/PREFIX. The prefix "
                "separates uploads from other objects of the bucket and consists of letters, digits, _ and -."
            )
        return cls(match["bucket"], match["prefix"], settings.max_upload, settings.timeout * _TIMEOUT_SHARE)

    @cached_property
    def origin(self) -> str:
        """Origin of the upload forms, for the page's Content-Security-Policy."""
        return s3.origin(self._bucket)

    async def create_form(self, caller: Caller) -> PresignedForm:
        """Create a form for one upload; raises BadGatewayError without credentials."""
        key = f"{self._folder(caller)}{uuid.uuid4().hex}"
        expires = datetime.now(UTC) + _FORM_LIFETIME
        post = await asyncio.to_thread(self._presign, key)
        return PresignedForm(key, post["url"], post["fields"], expires, self._max_bytes)

    async def fetch(self, value: str, caller: Caller) -> RequestBody:
        """Return an upload of the caller.

        Raises NotAllowedError if the key does not belong to the caller, NotFoundError if nothing is stored under it,
        and other ProblemErrors if the object cannot be read.
        """
        self._require_owner(value, caller)
        return await self._run(lambda: self._read(value))

    async def delete(self, value: str, caller: Caller) -> None:
        """Delete an upload of the caller, if it exists; raises like `fetch`."""
        self._require_owner(value, caller)
        await self._run(lambda: self._delete(value))

    def _folder(self, caller: Caller) -> str:
        owner = hashlib.sha256(caller.name.encode()).hexdigest()[:32]
        return f"{self._prefix}/{owner}/"

    def _require_owner(self, key: str, caller: Caller) -> None:
        """Accept only keys that `create_form` can have created for the caller."""
        folder = self._folder(caller)
        if not (key.startswith(folder) and re.fullmatch(r"[0-9a-f]{32}", key.removeprefix(folder))):
            raise NotAllowedError("Unknown upload key; use `object` of the response of POST /api/uploads.")

    async def _run(self, function: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.to_thread(function)
        except TimeoutError as error:
            raise GatewayTimeoutError(
                f"The upload storage did not respond within {self._timeout:g} s; try again."
            ) from error

    @cached_property
    def _s3(self) -> "S3Client":
        return s3.client(self._timeout)

    def _presign(self, key: str) -> dict[str, Any]:
        with s3.translate_errors():
            return self._s3.generate_presigned_post(
                self._bucket,
                key,
                Conditions=[["content-length-range", 1, self._max_bytes], ["starts-with", "$Content-Type", ""]],
                ExpiresIn=int(_FORM_LIFETIME.total_seconds()),
            )

    def _read(self, key: str) -> RequestBody:
        deadline = time.monotonic() + self._timeout
        with s3.translate_errors():
            response = self._s3.get_object(Bucket=self._bucket, Key=key)
            body = response["Body"]
            try:
                self._require_size(response["ContentLength"])
                content = bytearray()
                for chunk in body.iter_chunks(_CHUNK):
                    content += chunk
                    self._require_size(len(content))
                    if time.monotonic() > deadline:
                        raise TimeoutError
            finally:
                body.close()
        media_type = response.get("ContentType", "")
        is_usable = media_type != _UNTYPED and media_type.isascii() and media_type.isprintable()
        return RequestBody(bytes(content), media_type if is_usable else "")

    def _require_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise ContentTooLargeError(f"The upload exceeds the limit of {self._max_bytes} bytes.")

    def _delete(self, key: str) -> None:
        with s3.translate_errors():
            self._s3.delete_object(Bucket=self._bucket, Key=key)
