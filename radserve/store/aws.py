"""Connections to S3: credentials, region and endpoint, and explanations of errors."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from radserve.errors import StoreError
from radserve.store import storage

if TYPE_CHECKING:
    from boto3.session import Session
    from obstore.store import ClientConfig, S3Store
    from types_boto3_s3 import S3Client

_METADATA_SERVICE: Final = "169.254.169.254"
_CREDENTIALS: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
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
    """Connect to a bucket with the credentials, region and endpoint of the environment.

    obstore reads environment variables and asks for the role of the ECS task, EKS pod or EC2 instance. boto3 does the
    rest: the files of the AWS command line (profiles, single sign-on), and roles from endpoints without TLS.

    Raises
    ------
    StoreError
        If there are no credentials, or boto3 is needed and not installed.
    """
    from obstore.store import S3Store

    config: dict[str, Any] = {"checksum_algorithm": "SHA256"}
    options: ClientConfig = {**storage.TIMEOUTS}
    provider, endpoint = None, _variable("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    if bundle := _variable("AWS_CA_BUNDLE"):
        options["root_certificate"] = Path(bundle).read_bytes()
    if sts := _variable("AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"):
        config["endpoint_url_sts"] = sts
    if _needs_boto3(sts):
        session = _session(name)
        with errors(name):
            from obstore.auth.boto3 import Boto3CredentialProvider

            if session.get_credentials() is None:
                raise StoreError(f"{name}: {_NO_CREDENTIALS}")
            provider, meta = Boto3CredentialProvider(session), session.client("s3").meta
        endpoint, config["region"] = meta.endpoint_url, meta.region_name
    elif not _variable(*_CREDENTIALS):
        _require_metadata_service(name)
    if endpoint:
        config["endpoint"] = endpoint
        options["allow_http"] = endpoint.startswith("http://")
    return S3Store(
        bucket,
        prefix=prefix or None,
        config=config,  # type: ignore[arg-type]  # the stub has another name for endpoint_url_sts
        client_options=options,
        retry_config=storage.RETRIES,
        credential_provider=provider,
    )


def boto3_client(name: str) -> S3Client:
    """Return a boto3 client, for what obstore does not offer.

    Raises
    ------
    StoreError
        If boto3 is not installed or its configuration is invalid.
    """
    session = _session(name)
    with errors(name):
        from botocore.config import Config

        retries: Any = {"mode": "standard", "total_max_attempts": storage.RETRIES["max_retries"] + 1}
        return session.client("s3", config=Config(retries=retries, connect_timeout=5, read_timeout=60))


def _session(name: str) -> Session:
    try:
        import boto3
    except ImportError as error:
        raise StoreError(f"{name}: this needs boto3; install it with: pip install boto3") from error

    with errors(name):
        return boto3.Session(region_name=_variable("AWS_REGION"))  # which boto3 does not read


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
    if f"http://{_METADATA_SERVICE}/" in text or "Missing AccessKeyId" in text or "Missing SecretAccessKey" in text:
        raise StoreError(f"{name}: {_NO_CREDENTIALS}")


def _needs_boto3(sts: str | None) -> bool:
    files = (
        _variable("AWS_CONFIG_FILE") or "~/.aws/config",
        _variable("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials",
    )
    return (
        _variable("AWS_PROFILE") is not None
        or any(Path(file).expanduser().is_file() for file in files)
        # obstore supports this address only with a token file, as EKS sets both.
        or (
            _variable("AWS_CONTAINER_CREDENTIALS_FULL_URI") is not None
            and _variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") is None
        )
        or (_variable("AWS_WEB_IDENTITY_TOKEN_FILE") is not None and (sts or "").startswith("http://"))
    )


def _variable(*names: str) -> str | None:
    """Return the first of these environment variables that is set and not empty."""
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def _require_metadata_service(name: str) -> None:
    """Fail fast outside EC2, where obstore would retry the metadata service for a minute."""
    try:
        if (_variable("AWS_EC2_METADATA_DISABLED") or "").lower() == "true":
            raise OSError("disabled")
        socket.create_connection((_METADATA_SERVICE, 80), timeout=1).close()
    except OSError as error:
        raise StoreError(f"{name}: {_NO_CREDENTIALS}") from error
