"""Exceptions of the library and the command line, in one tree.

The root is in `handlers.errors`; exceptions of the gateway are in `gateway.errors`, those of AWS commands in
`radserve.deploy.errors`. `code` is the exit code of the command line.
"""

from collections.abc import Mapping
from typing import Any

from handlers.errors import RadServeError as RadServeError  # noqa: PLC0414 - for packages that do not import handlers


class BuildError(RadServeError):
    """An archive cannot be built from its recipe."""


class MissingWeightsError(BuildError):
    """The weights of a recipe are not in the repository."""


class WeightsImportError(RadServeError):
    """A checkpoint does not fit the network of a recipe."""


class BundleError(WeightsImportError):
    """A MONAI bundle is incomplete, contains code, or has a part that a recipe cannot express."""


class ArchiveError(RadServeError):
    """An archive or the index of a model store is invalid."""


class StoreIndexError(ArchiveError):
    """The index of a model store cannot be read."""


class ServeError(RadServeError):
    """The server cannot start or continue."""


class SiteProfileError(RadServeError):
    """A site profile cannot be fitted or used."""


class ChangeError(RadServeError):
    """A change of the served versions failed; `status` is its HTTP status."""

    status = 500
    title = "Internal error"

    def __init_subclass__(cls, status: int | None = None, title: str | None = None) -> None:
        cls.status, cls.title = status or cls.status, title or cls.title


class InvalidChangeError(ChangeError, status=400, title="Bad request"):
    """The request has an invalid key or value."""


class NotServedError(ChangeError, status=404, title="Not found"):
    """The model, version or rollout does not exist."""


class ConflictError(ChangeError, status=409, title="Conflict"):
    """The change conflicts with the current state."""


class NotReadyError(ChangeError, status=503, title="Service unavailable"):
    """Changes are not possible yet."""


class VersionFailedError(ChangeError, status=502, title="The version failed"):
    """A version failed; the previous one is still served."""


class KeysError(RadServeError):
    """API keys cannot be read or changed, or an option is invalid."""


class BatchError(RadServeError):
    """A batch job has an invalid argument, or an output folder that it cannot use."""

    code = 2


class ShardError(RadServeError):
    """A shard of a batch job failed; another attempt may succeed."""


class DeploymentError(RadServeError):
    """A deployment.yaml is invalid; no request was sent."""

    code = 2


class StoreError(RadServeError):
    """An archive store cannot be used, or has invalid content."""


class IndexConflictError(StoreError):
    """Another process changed the index of a store; read it again before writing."""


class MissingBlobError(StoreError):
    """A store lists an archive without having its content."""


class InterruptedTransferError(StoreError):
    """A transfer was interrupted and can be continued."""


class CorruptDataError(StoreError):
    """Received data does not match the index."""


class DicomError(RadServeError):
    """A result cannot be written as a DICOM object."""


class PacsSettingsError(RadServeError):
    """The settings of `radserve pacs` are invalid."""

    code = 2


class PacsError(RadServeError):
    """A system of the PACS rejects a request, or the folder of the loop cannot be used."""


class PacsUnavailableError(PacsError):
    """A system of the PACS cannot be reached or has no space; the same request may succeed later."""


class ClientError(RadServeError):
    """A request of `radserve.client` failed."""


class InvalidCallError(ClientError):
    """An argument is invalid, so every request of this kind would fail."""

    code = 2


class UnreachableError(ClientError):
    """The server cannot be reached."""

    code = 3


class ResponseTimeoutError(UnreachableError):
    """The server accepted the request and did not respond in time; it may still be working."""

    code = 1


class InvalidResponseError(ClientError):
    """The response is malformed or inconsistent; no part of it is used."""


class ProblemError(ClientError):
    """The server reported an error; `title`, `detail` and `extensions` (further members) as in RFC 9457.

    `extensions["domain"]` compares an image with the training images, if that is why it was rejected.
    """

    def __init__(self, status: int, title: str, detail: str, extensions: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{status} {title}: {detail}")
        self.status = status
        self.title = title
        self.detail = detail
        self.extensions = dict(extensions or {})


class RejectedRequestError(ProblemError):
    """Status 4xx: the request is at fault, so repeating it does not help."""


class ServerFailedError(ProblemError):
    """Status 5xx: the server is at fault; the request may be valid."""
