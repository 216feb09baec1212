"""Images too large for a request: the client puts them into a bucket by itself, and names them by their key."""

from __future__ import annotations

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
from gateway.uploads.request_body import Body

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_LOCATION: Final = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<prefix>[\w-]+(/[\w-]+)*)/?", re.ASCII
)
_VALID: Final = timedelta(minutes=10)
"""For which a form may be sent; long enough to begin, whatever the line."""
_SHARE: Final = 0.5
"""Of `Settings.timeout` that fetching may take: the server has its own time after it."""
_CHUNK: Final = 1024 * 1024
_UNKNOWN_TYPE: Final = "binary/octet-stream"
"""What S3 calls what came without a type."""

T = TypeVar("T")


@dataclass(frozen=True)
class Form:
    """A form that takes one file to its place in the bucket.

    Attributes
    ----------
    key
        Names the object in a prediction.
    fields
        Of the form, in this order, before the file itself.
    """

    key: str
    url: str
    fields: dict[str, str]
    expires: datetime
    max_bytes: int


class Uploads:
    """A folder of a bucket of S3, or of whatever speaks its protocol; what is in it lives for a day.

    A key is PREFIX/OWNER/ID. The owner is a digest of the caller's name and the ID is random: nobody guesses another's
    key, and who learns one cannot use it.

    Parameters
    ----------
    max_bytes
        Longest object.
    patience
        Seconds that fetching one may take.
    """

    def __init__(self, bucket: str, prefix: str, max_bytes: int, patience: float) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._max = max_bytes
        self._patience = patience

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """Return those that settings describe; None where they are off.

        Raises
        ------
        SettingsError
            If the place is none.
        """
        if not settings.uploads:
            return None
        match = _LOCATION.fullmatch(settings.uploads)
        if match is None:
            raise SettingsError(
                f"RADSERVE_GATEWAY_UPLOADS has value {settings.uploads!r}. Write s3://BUCKET/PREFIX; the prefix is of "
                "letters, digits, _ and -, and keeps uploads apart from whatever else the bucket holds."
            )
        return cls(match["bucket"], match["prefix"], settings.max_upload, settings.timeout * _SHARE)

    @cached_property
    def origin(self) -> str:
        """Where forms go, for a page's Content-Security-Policy."""
        return s3.origin(self._bucket)

    async def offer(self, caller: Caller) -> Form:
        """Make a form for one upload.

        Raises
        ------
        BadGateway
            If there are no credentials to sign it with.
        """
        key = f"{self._folder(caller)}{uuid.uuid4().hex}"
        expires = datetime.now(UTC) + _VALID
        made = await asyncio.to_thread(self._signed, key)
        return Form(key, made["url"], made["fields"], expires, self._max)

    async def fetch(self, value: str, caller: Caller) -> Body:
        """Return an object that this caller uploaded.

        Raises
        ------
        NotAllowed
            If the key is not one of this caller's.
        NotFound
            If nothing has been uploaded there, or it is gone again.
        ContentTooLarge, BadGateway, GatewayTimeout, Unavailable
            If it cannot be had.
        """
        self._own(value, caller)
        return await self._within(lambda: self._read(value))

    async def delete(self, value: str, caller: Caller) -> None:
        """Delete an object that this caller uploaded, or none; raises like `fetch`."""
        self._own(value, caller)
        await self._within(lambda: self._remove(value))

    def _folder(self, caller: Caller) -> str:
        owner = hashlib.sha256(caller.name.encode()).hexdigest()[:32]
        return f"{self._prefix}/{owner}/"

    def _own(self, key: str, caller: Caller) -> None:
        """Let only keys pass that `offer` can have made for this caller: no other's, nothing else of the bucket."""
        folder = self._folder(caller)
        if not (key.startswith(folder) and re.fullmatch(r"[0-9a-f]{32}", key.removeprefix(folder))):
            raise NotAllowedError(
                "This is no key that POST /api/uploads gave you; take `object` of its answer as it is."
            )

    async def _within(self, act: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(self._patience):
                return await asyncio.to_thread(act)
        except TimeoutError as error:
            raise GatewayTimeoutError(f"Storage did not answer within {self._patience:g} s; try again.") from error

    @cached_property
    def _s3(self) -> S3Client:
        return s3.client(self._patience)

    def _signed(self, key: str) -> dict[str, Any]:
        with s3.explained():
            return self._s3.generate_presigned_post(
                self._bucket,
                key,
                Conditions=[["content-length-range", 1, self._max], ["starts-with", "$Content-Type", ""]],
                ExpiresIn=int(_VALID.total_seconds()),
            )

    def _read(self, key: str) -> Body:
        end = time.monotonic() + self._patience
        with s3.explained():
            answer = self._s3.get_object(Bucket=self._bucket, Key=key)
            body = answer["Body"]
            try:
                self._bound(answer["ContentLength"])
                content = bytearray()
                for chunk in body.iter_chunks(_CHUNK):
                    content += chunk
                    self._bound(len(content))
                    if time.monotonic() > end:
                        raise TimeoutError
            finally:
                body.close()
        return Body(bytes(content), _media_type(answer.get("ContentType", "")))

    def _bound(self, size: int) -> None:
        if size > self._max:
            raise ContentTooLargeError(f"The object has more than the {self._max} bytes that are taken.")

    def _remove(self, key: str) -> None:
        with s3.explained():
            self._s3.delete_object(Bucket=self._bucket, Key=key)


def _media_type(named: str) -> str:
    """Return the type that its sender named; an object without one speaks for itself."""
    return named if named != _UNKNOWN_TYPE and named.isascii() and named.isprintable() else ""
