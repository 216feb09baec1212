"""The branches of the tree that only the command line raises; its root is in `handlers.errors`."""

from __future__ import annotations

from handlers.errors import RadServeError as RadServeError  # noqa: PLC0414 - the root, for those who may not import handlers


class BuildError(RadServeError):
    """An archive cannot be built from its recipe."""


class MissingWeightsError(BuildError):
    """The repository does not hold a model's weights, as its recipe says."""


class WeightsImportError(RadServeError):
    """A checkpoint does not give weights for a recipe's network."""


class ArchiveError(RadServeError):
    """An archive or the index of a model store is not what it should be."""


class ServeError(RadServeError):
    """The server cannot be started or kept running; `code` is the exit code that says why."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class ChangeError(RadServeError):
    """What is served cannot be changed as asked; `status` is the HTTP status that says so."""

    status = 500
    title = "Internal error"


class InvalidChangeError(ChangeError):
    """The change itself is wrong: it names a key or a value that cannot be."""

    status = 400
    title = "Bad request"


class NotServedError(ChangeError):
    """There is no such model, version or rollout."""

    status = 404
    title = "Not found"


class ConflictError(ChangeError):
    """The change does not fit to what is served at present."""

    status = 409
    title = "Conflict"


class NotReadyError(ChangeError):
    """Nothing can be changed now, but later."""

    status = 503
    title = "Service unavailable"


class VersionFailedError(ChangeError):
    """A version did not do what it should; what was served before still is."""

    status = 502
    title = "The version failed"


class KeysError(RadServeError):
    """Keys cannot be read or changed, or an option about them is wrong."""


class DeploymentError(RadServeError):
    """A deployment.yaml is wrong; nothing was asked of a server."""

    code = 2


class StoreError(RadServeError):
    """An archive store cannot be used as asked, or holds what it should not."""


class IndexConflictError(StoreError):
    """Another one wrote the index of a store in between: read it and write again."""


class MissingBlobError(StoreError):
    """A store lists an archive whose bytes it does not hold."""


class InterruptedTransferError(StoreError):
    """A transfer ended too soon; what is missing may be asked for again."""


class CorruptDataError(StoreError):
    """What came is not what the index says."""


class ClientError(RadServeError):
    """A server could not be asked, or answered what is no answer."""


class InvalidCallError(ClientError):
    """The call itself is wrong: another image would fare no better."""

    code = 2


class UnreachableError(ClientError):
    """Nobody took the request."""

    code = 3


class ResponseTimeoutError(UnreachableError):
    """The server took the request and did not answer in time; it may still be working on it."""

    code = 1


class InvalidResponseError(ClientError):
    """What came back is not what is documented, so no part of it may be used."""


class ProblemError(ClientError):
    """The server said what is wrong; `title` and `detail` as in RFC 9457."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(f"{status} {title}: {detail}")
        self.status = status
        self.title = title
        self.detail = detail


class RejectedRequestError(ProblemError):
    """4xx: this request will not be answered however often it is sent."""


class ServerFailedError(ProblemError):
    """5xx: the fault is the server's; the request may be right."""
