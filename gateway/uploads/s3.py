"""S3 client of the gateway, and the translation of its errors into problems."""

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
_TEMPORARY: Final = frozenset({"SlowDown", "ServiceUnavailable", "InternalError", "500", "503"})
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


def client(timeout: float) -> "S3Client":
    """Return a client that waits `timeout` seconds; raises BotoCoreError without credentials or region."""
    import boto3  # takes a third of a second to import
    from botocore.config import Config
    from botocore.exceptions import NoCredentialsError

    config = Config(
        signature_version="s3v4",
        s3=_addressing(),
        connect_timeout=3,
        read_timeout=max(1.0, timeout),
        retries={"mode": "standard", "total_max_attempts": 2},
    )
    session = boto3.session.Session()
    if session.get_credentials() is None:  # signing would fail with an AttributeError
        raise NoCredentialsError
    return session.client("s3", config=config)


def origin(bucket: str) -> str:
    """Return the origin (scheme, host, port) of a bucket's URLs."""
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    config = Config(signature_version=UNSIGNED, s3=_addressing())
    with translate_errors():
        unsigned = boto3.session.Session().client("s3", config=config)
        parts = urlsplit(unsigned.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "a"}))
    return f"{parts.scheme}://{parts.netloc}"


def _addressing() -> Any:
    """Return the addressing style: at AWS the bucket's own host, elsewhere the path.

    s3.amazonaws.com redirects uploads to other regions, which browsers do not follow.
    """
    return {"addressing_style": "path" if any(map(os.environ.get, _ENDPOINTS)) else "virtual"}


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn exceptions of boto3 into problems; details for the operator go to the log."""
    from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, ReadTimeoutError

    try:
        yield
    except ClientError as error:
        raise _problem(error) from error
    except (ConnectTimeoutError, ReadTimeoutError) as error:
        raise GatewayTimeoutError("The upload storage did not respond in time; try again.") from error
    except BotoCoreError as error:
        logger.error("upload storage: %s", error)  # noqa: TRY400 - the message is complete
        raise BadGatewayError("The upload storage is unavailable; see the gateway's log.") from error


def _problem(error: Any) -> ProblemError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code in _MISSING:
        return NotFoundError(
            "Unknown upload. Send the file to the URL of POST /api/uploads first; uploads are deleted after a day."
        )
    if code in _TEMPORARY:
        return UnavailableError("The upload storage is busy; try again in a few seconds.", {"Retry-After": "5"})
    logger.error("upload storage: %s", error)
    return BadGatewayError(f"The upload storage denied access ({code}); ask the operator to check its permissions.")
