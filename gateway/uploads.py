"""Images too large for a request: the client puts them into a bucket by itself, and names them by their key."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from gateway.access import Caller
from gateway.body import Body
from gateway.errors import (
    BadGateway,
    ContentTooLarge,
    GatewayTimeout,
    NotAllowed,
    NotFound,
    Problem,
    SettingsError,
    Unavailable,
)
from gateway.settings import Settings

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

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
_MISSING: Final = frozenset({"NoSuchKey", "NotFound", "404"})
_LATER: Final = frozenset({"SlowDown", "ServiceUnavailable", "InternalError", "500", "503"})

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
            raise NotAllowed("This is no key that POST /api/uploads gave you; take `object` of its answer as it is.")

    async def _within(self, act: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(self._patience):
                return await asyncio.to_thread(act)
        except TimeoutError as error:
            raise GatewayTimeout(f"Storage did not answer within {self._patience:g} s; try again.") from error

    @cached_property
    def _s3(self) -> S3Client:
        import boto3  # a third of a second that only those who take uploads pay
        from botocore.config import Config
        from botocore.exceptions import NoCredentialsError

        custom = any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
        # At AWS a bucket's own host: s3.amazonaws.com redirects uploads to other regions, which browsers do not follow.
        # Elsewhere a path, for a host of its own needs a name of its own.
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if custom else "virtual"},
            connect_timeout=3,
            read_timeout=max(1.0, self._patience),
            retries={"mode": "standard", "total_max_attempts": 2},
        )
        session = boto3.session.Session()
        if session.get_credentials() is None:  # signing would fail on it, without saying so
            raise NoCredentialsError
        return session.client("s3", config=config)

    def _signed(self, key: str) -> dict[str, Any]:
        with _explained():
            return self._s3.generate_presigned_post(
                self._bucket,
                key,
                Conditions=[["content-length-range", 1, self._max], ["starts-with", "$Content-Type", ""]],
                ExpiresIn=int(_VALID.total_seconds()),
            )

    def _read(self, key: str) -> Body:
        end = time.monotonic() + self._patience
        with _explained():
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
            raise ContentTooLarge(f"The object has more than the {self._max} bytes that are taken.")

    def _remove(self, key: str) -> None:
        with _explained():
            self._s3.delete_object(Bucket=self._bucket, Key=key)


def _media_type(named: str) -> str:
    """Return the type that its sender named; an object without one speaks for itself."""
    return named if named != _UNKNOWN_TYPE and named.isascii() and named.isprintable() else ""


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what boto3 raises into a problem; what only the operator may know goes to the log."""
    from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, ReadTimeoutError

    try:
        yield
    except ClientError as error:
        raise _refusal(error) from error
    except (ConnectTimeoutError, ReadTimeoutError) as error:
        raise GatewayTimeout("Storage does not answer in time; try again.") from error
    except BotoCoreError as error:
        logger.error("storage for uploads: %s", error)  # noqa: TRY400 - said in full
        raise BadGateway("Storage for uploads cannot be used; the gateway's log says why.") from error


def _refusal(error: Any) -> Problem:
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code in _MISSING:
        return NotFound(
            "Nothing has this key: send the file first, where POST /api/uploads says. It is deleted after a day."
        )
    if code in _LATER:
        return Unavailable("Storage cannot be read now; try again in some seconds.", {"Retry-After": "5"})
    logger.error("storage for uploads: %s", error)
    return BadGateway(f"Storage for uploads refuses this gateway ({code}); its operator has to correct that.")
