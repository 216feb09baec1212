"""S3 as the gateway asks it: a client, and what goes wrong as problems."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from gateway.errors import BadGatewayError, GatewayTimeoutError, NotFoundError, ProblemError, UnavailableError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

_MISSING: Final = frozenset({"NoSuchKey", "NotFound", "404"})
_LATER: Final = frozenset({"SlowDown", "ServiceUnavailable", "InternalError", "500", "503"})
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


def client(patience: float) -> S3Client:
    """Return a client by the usual chain of credentials, region and endpoint.

    Parameters
    ----------
    patience
        Seconds that it waits for an answer.

    Raises
    ------
    botocore.exceptions.BotoCoreError
        If there are no credentials or no region; see `explained`.
    """
    import boto3  # a third of a second that only those who take uploads pay
    from botocore.config import Config
    from botocore.exceptions import NoCredentialsError

    config = Config(
        signature_version="s3v4",
        s3=_addressing(),
        connect_timeout=3,
        read_timeout=max(1.0, patience),
        retries={"mode": "standard", "total_max_attempts": 2},
    )
    session = boto3.session.Session()
    if session.get_credentials() is None:  # signing would fail on it, without saying so
        raise NoCredentialsError
    return session.client("s3", config=config)


def origin(bucket: str) -> str:
    """Return the origin (scheme, host, port) of a bucket's URLs."""
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    config = Config(signature_version=UNSIGNED, s3=_addressing())
    with explained():
        unsigned = boto3.session.Session().client("s3", config=config)
        parts = urlsplit(unsigned.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "a"}))
    return f"{parts.scheme}://{parts.netloc}"


def _addressing() -> Any:
    """At AWS a bucket's own host: s3.amazonaws.com redirects uploads to other regions, which browsers do not follow.

    Elsewhere a path, for a host of its own needs a name of its own.
    """
    return {"addressing_style": "path" if any(map(os.environ.get, _ENDPOINTS)) else "virtual"}


@contextmanager
def explained() -> Iterator[None]:
    """Turn what boto3 raises into a problem; what only the operator may know goes to the log."""
    from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, ReadTimeoutError

    try:
        yield
    except ClientError as error:
        raise _refusal(error) from error
    except (ConnectTimeoutError, ReadTimeoutError) as error:
        raise GatewayTimeoutError("Storage does not answer in time; try again.") from error
    except BotoCoreError as error:
        logger.error("storage for uploads: %s", error)  # noqa: TRY400 - said in full
        raise BadGatewayError("Storage for uploads cannot be used; the gateway's log says why.") from error


def _refusal(error: Any) -> ProblemError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code in _MISSING:
        return NotFoundError(
            "Nothing has this key: send the file first, where POST /api/uploads says. It is deleted after a day."
        )
    if code in _LATER:
        return UnavailableError("Storage cannot be read now; try again in some seconds.", {"Retry-After": "5"})
    logger.error("storage for uploads: %s", error)
    return BadGatewayError(f"Storage for uploads refuses this gateway ({code}); its operator has to correct that.")
