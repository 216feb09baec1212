"""AWS clients of one session, and readable errors for what botocore raises."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError

from radserve.deploy.errors import CloudError
from radserve.deploy.failure_advice import with_advice

if TYPE_CHECKING:
    from types_boto3_cloudformation import CloudFormationClient
    from types_boto3_ecr import ECRClient
    from types_boto3_s3 import S3Client, S3ServiceResource
    from types_boto3_secretsmanager import SecretsManagerClient

_CONFIG: Final = Config(
    retries={"mode": "standard", "max_attempts": 8}, connect_timeout=10, read_timeout=60, user_agent_extra="radserve"
)
_MESSAGES: Final[tuple[tuple[tuple[type[Exception], ...], str], ...]] = (
    (
        (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError),
        "No AWS credentials found. Sign in ('aws configure', 'aws sso login') or pass --profile.",
    ),
    ((SSOError, TokenRetrievalError), "The AWS sign-in has expired. Sign in again: aws sso login."),
    ((ProfileNotFound,), "{error}. To list the profiles: aws configure list-profiles."),
    ((NoRegionError,), "No AWS region. Set region in the environment's file, --region or AWS_DEFAULT_REGION."),
    ((EndpointConnectionError,), "{error} Check the network and the name of the region."),
    ((Exception,), "Request to AWS failed: {error}"),
)
_EXPIRED: Final = ("ExpiredToken", "ExpiredTokenException", "RequestExpired")
_INVALID: Final = (
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "AuthFailure",
    "InvalidAccessKeyId",
)
_DENIED: Final = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")


class Cloud:
    """AWS clients for one account and region; None selects those of AWS' variables and configuration files."""

    def __init__(self, region: str | None = None, profile: str | None = None) -> None:
        import boto3  # a quarter of a second, which `radserve --help` need not wait for

        with readable_errors():
            session = boto3.Session(region_name=region, profile_name=profile)
            self._session = session
            self._clients: dict[str, Any] = {}
            self.formation: CloudFormationClient = session.client("cloudformation", config=_CONFIG)
            self.s3: S3Client = session.client("s3", config=_CONFIG)
            # Deletes versions in batches.
            self.buckets: S3ServiceResource = session.resource("s3", config=_CONFIG)
            self.ecr: ECRClient = session.client("ecr", config=_CONFIG)
            self.secrets: SecretsManagerClient = session.client("secretsmanager", config=_CONFIG)
            self.kms: Any = session.client("kms", config=_CONFIG)

    @property
    def region(self) -> str:
        """Region of the clients."""
        return self.formation.meta.region_name

    def client(self, service: str) -> Any:
        """Return the client of a service that few commands use."""
        if service not in self._clients:
            self._clients[service] = self._session.client(service, config=_CONFIG)  # type: ignore[call-overload]
        return self._clients[service]


def select(region: str | None, profile: str | None) -> None:
    """Make archive stores, which use AWS' variables, use a region and a profile; None leaves them unchanged."""
    for variable, value in (("AWS_REGION", region), ("AWS_DEFAULT_REGION", region), ("AWS_PROFILE", profile)):
        if value:
            os.environ[variable] = value


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn errors of botocore into a CloudError: one line that says what to do."""
    try:
        yield
    except ClientError as error:
        raise CloudError(_message(error)) from error
    except (BotoCoreError, ResponseParserError) as error:
        text = next(text for types, text in _MESSAGES if isinstance(error, types))
        raise CloudError(text.format(error=error)) from error


def error_code(error: ClientError) -> str:
    """Return AWS' code of an error."""
    return error.response.get("Error", {}).get("Code", "")


def error_text(error: ClientError) -> str:
    """Return AWS' message of an error."""
    return error.response.get("Error", {}).get("Message", str(error))


def _message(error: ClientError) -> str:
    code = error_code(error)
    if code in _EXPIRED:
        return "The AWS credentials have expired. Sign in again ('aws sso login') or renew the session token."
    if code in _INVALID:
        return f"AWS rejected the credentials ({code}). To see which are in use: aws sts get-caller-identity."
    if code in _DENIED:
        return f"The credentials lack permission for {error.operation_name}: {error_text(error)}"
    return with_advice(f"{error.operation_name}: {error_text(error)}")
