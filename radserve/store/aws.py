"""Connections to S3: credentials, region and endpoint, and explanations of errors."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from radserve.errors import StoreError
from radserve.store import object_storage

if TYPE_CHECKING:
    from boto3.session import Session
    from obstore.store import ClientConfig, S3Store
    from types_boto3_s3 import S3Client

_NO_CREDENTIALS: Final = (
    "no AWS credentials found. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the task, pod "
    "or machine a role."
)
_MEANINGS: Final = {
    "NoSuchBucket": "the bucket does not exist; create it, or correct --store.",
    "AccessDenied": "access denied. Reading needs s3:GetObject and s3:ListBucket (without the latter, S3 also denies "
    "access to missing objects), pushing s3:PutObject; docs/store.md lists the permissions.",
    "ExpiredToken": "the session credentials have expired; renew them.",
    "InvalidAccessKeyId": "unknown access key or session token.",
    "SignatureDoesNotMatch": "wrong secret access key.",
    "RequestTimeTooSkewed": "the clock of this machine is wrong.",
    "NotImplemented": "no conditional writes, which concurrent pushes need.",
    "PermanentRedirect": "the bucket is in another region; set AWS_REGION to it.",
}
_ALIASES: Final = {
    "403": "AccessDenied",
    "Forbidden": "AccessDenied",
    "AllAccessDisabled": "AccessDenied",
    "ExpiredTokenException": "ExpiredToken",
    "InvalidToken": "InvalidAccessKeyId",
    "InvalidClientTokenId": "InvalidAccessKeyId",
    "AuthorizationHeaderMalformed": "PermanentRedirect",
    "501": "NotImplemented",
}


def connect(name: str, bucket: str, prefix: str) -> S3Store:
    """Connect to a bucket with the credentials, region and endpoint that boto3 finds: variables, profiles, roles."""
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import S3Store

    with errors(name):
        session = _session()
        credentials = session.get_credentials()
        if credentials is None:
            raise StoreError(f"{name}: {_NO_CREDENTIALS}")
        credentials.get_frozen_credentials()  # here, where an error is explained
        endpoint = session.client("s3").meta.endpoint_url
        provider = Boto3CredentialProvider(session)
    options: ClientConfig = {**object_storage.TIMEOUTS, "allow_http": endpoint.startswith("http://")}
    if bundle := os.environ.get("AWS_CA_BUNDLE"):
        options["root_certificate"] = Path(bundle).read_bytes()
    return S3Store(
        bucket,
        prefix=prefix or None,
        config={"checksum_algorithm": "SHA256", "endpoint": endpoint, "region": session.region_name or "us-east-1"},
        client_options=options,
        retry_config=object_storage.RETRIES,
        credential_provider=provider,
    )


def boto3_client(name: str) -> S3Client:
    """Return a boto3 client, for what obstore does not offer."""
    with errors(name):
        from botocore.config import Config

        retries: Any = {"mode": "standard", "total_max_attempts": object_storage.RETRIES["max_retries"] + 1}
        return _session().client("s3", config=Config(retries=retries, connect_timeout=5, read_timeout=60))


def _session() -> Session:
    import boto3
    import botocore.session

    session = botocore.session.get_session()
    # boto3 reads neither SSL_CERT_FILE nor AWS_REGION.
    if bundle := os.environ.get("AWS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE"):
        session.set_config_variable("ca_bundle", bundle)
    return boto3.Session(botocore_session=session, region_name=os.environ.get("AWS_REGION") or None)


@contextmanager
def errors(name: str) -> Iterator[None]:
    """Turn errors of boto3 into StoreError."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    try:
        yield
    except ClientError as error:
        explain(name, f"<Code>{error_code(error)}</Code>")
        raise StoreError(f"{name}: {error}.") from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise StoreError(f"{name}: {_NO_CREDENTIALS}") from error
    except BotoCoreError as error:
        raise StoreError(f"{name}: {error}") from error


def error_code(error: Exception) -> str:
    """Return the code of a ClientError."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


def explain(name: str, text: str) -> None:
    """Raise StoreError with advice if an error has a cause that is listed here."""
    code = re.search(r"<Code>(\w+)</Code>", text)
    meaning = _MEANINGS.get(_ALIASES.get(code[1], code[1])) if code else None
    if meaning:
        raise StoreError(f"{name}: {meaning}")
