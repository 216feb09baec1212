"""What boto3 says when something goes wrong, in words that name the way out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from radserve.errors import StoreError

MISSING: Final = frozenset({"NoSuchKey", "404", "NotFound"})
CONFLICTS: Final = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})

_MEANING: Final = {
    "NoSuchBucket": "there is no such bucket; make it first, or correct --store.",
    "AccessDenied": "access is denied. Reading needs s3:GetObject and s3:ListBucket (without the latter S3 also denies "
    "what does not exist), pushing s3:PutObject; docs/store.md has the policies.",
    "ExpiredToken": "the session's credentials have expired; get new ones.",
    "InvalidAccessKeyId": "the access key, or its session token, is not known there.",
    "SignatureDoesNotMatch": "the secret access key is wrong.",
    "RequestTimeTooSkewed": "this machine's clock is wrong.",
    "NotImplemented": "it has no conditional writes, without which two pushes at a time would lose one.",
}
_SAME: Final = {
    "403": "AccessDenied",
    "Forbidden": "AccessDenied",
    "AllAccessDisabled": "AccessDenied",
    "ExpiredTokenException": "ExpiredToken",
    "InvalidToken": "InvalidAccessKeyId",
    "InvalidClientTokenId": "InvalidAccessKeyId",
    "501": "NotImplemented",
}


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn what boto3 raises into a StoreError; `name` is what was asked."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise StoreError(f"{name}: {_refusal(error)}") from error
    except BotoCoreError as error:
        raise StoreError(f"{name}: {_failure(error)}") from error


def code(error: Exception) -> str:
    """Return the code of a ClientError."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


def _refusal(error: Exception) -> str:
    found = code(error)
    meaning = _MEANING.get(_SAME.get(found, found))
    return meaning or f"S3 says {found}: {getattr(error, 'response', {}).get('Error', {}).get('Message', error)}"


def _failure(error: Exception) -> str:
    from botocore import exceptions

    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return (
            "no AWS credentials were found. The usual chain is asked: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "AWS_PROFILE, the role of the task, pod or machine."
        )
    if isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError):
        return f"nobody answers: {error}"
    return f"boto3 says: {error}"
