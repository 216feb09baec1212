"""AWS, as this package asks it: clients of one session, and one clear line where it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import boto3
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
from radserve.deploy.hints import with_hint

if TYPE_CHECKING:
    from types_boto3_cloudformation import CloudFormationClient
    from types_boto3_ecr import ECRClient
    from types_boto3_s3 import S3Client
    from types_boto3_secretsmanager import SecretsManagerClient

_CONFIG: Final = Config(
    retries={"mode": "standard", "max_attempts": 8}, connect_timeout=10, read_timeout=60, user_agent_extra="radserve"
)
_NO_CREDENTIALS: Final = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)
_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
_INVALID: Final = frozenset(
    {
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "SignatureDoesNotMatch",
        "AuthFailure",
        "InvalidAccessKeyId",
    }
)
_DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})


class Cloud:
    """One account and region.

    Parameters
    ----------
    region, profile
        Of the usual chain of variables and files if None.
    """

    def __init__(self, region: str | None = None, profile: str | None = None) -> None:
        with explained():
            self._session = boto3.Session(region_name=region, profile_name=profile)

    @cached_property
    def formation(self) -> CloudFormationClient:
        """CloudFormation."""
        return self._session.client("cloudformation", config=_CONFIG)

    @cached_property
    def s3(self) -> S3Client:
        """S3."""
        return self._session.client("s3", config=_CONFIG)

    @cached_property
    def ecr(self) -> ECRClient:
        """ECR."""
        return self._session.client("ecr", config=_CONFIG)

    @cached_property
    def secrets(self) -> SecretsManagerClient:
        """Secrets Manager."""
        return self._session.client("secretsmanager", config=_CONFIG)

    @cached_property
    def kms(self) -> Any:
        """KMS."""
        return self._session.client("kms", config=_CONFIG)


@contextmanager
def explained() -> Iterator[None]:
    """Turn what botocore raises into one line that says what to do.

    Raises
    ------
    CloudError
        In place of botocore's own errors.
    """
    try:
        yield
    except ClientError as error:
        raise CloudError(_refusal(error)) from error
    except _NO_CREDENTIALS as error:
        raise CloudError(
            "no AWS credentials were found. Sign in ('aws configure', 'aws sso login'), or name a --profile."
        ) from error
    except (SSOError, TokenRetrievalError) as error:
        raise CloudError("the AWS sign-in has expired. Sign in again: aws sso login.") from error
    except ProfileNotFound as error:
        raise CloudError(f"{error}. 'aws configure list-profiles' names those that there are.") from error
    except NoRegionError as error:
        raise CloudError(
            "no AWS region is set. Put it into the file, or set --region or AWS_DEFAULT_REGION."
        ) from error
    except EndpointConnectionError as error:
        raise CloudError(f"{error} Is the network up, and the region's name right?") from error
    except (BotoCoreError, ResponseParserError) as error:
        raise CloudError(f"AWS could not be asked: {error}") from error


def code(error: ClientError) -> str:
    """Return the code of a refusal."""
    return error.response.get("Error", {}).get("Code", "")


def message(error: ClientError) -> str:
    """Return the text of a refusal."""
    return error.response.get("Error", {}).get("Message", str(error))


def _refusal(error: ClientError) -> str:
    what = code(error)
    if what in _EXPIRED:
        return "the AWS credentials have expired. Sign in again ('aws sso login'), or renew the session token."
    if what in _INVALID:
        return f"AWS does not accept the credentials ({what}). 'aws sts get-caller-identity' tells which are used."
    if what in _DENIED:
        return f"these credentials may not do {error.operation_name}: {message(error)}"
    return with_hint(f"{error.operation_name}: {message(error)}")
