"""Exceptions of the gateway; each `ProblemError` becomes an HTTP response (problem details, RFC 9457)."""

from collections.abc import Mapping

from radserve.errors import RadServeError
from radserve.schema.domain import Domain


class SettingsError(RadServeError):
    """The settings are invalid or unsafe, so the gateway does not start."""


class HistoryError(RadServeError):
    """The history store cannot be read or written."""


class ResponseError(RadServeError):
    """The response of another server is invalid, or exceeds a limit."""


class OversizedResponseError(ResponseError):
    """The response of another server exceeds a limit of bytes."""


class ProblemError(RadServeError):
    """A request failed; `detail` says what is wrong and what to do. `gateway.problems` renders it with `headers`.

    `domain` compares an image with the training images, if that is why it was rejected.
    """

    status = 500
    title = "Internal error"

    def __init_subclass__(cls, status: int | None = None, title: str | None = None) -> None:
        cls.status, cls.title = status or cls.status, title or cls.title

    def __init__(
        self,
        detail: str,
        headers: Mapping[str, str] | None = None,
        *,
        status: int = 0,
        title: str = "",
        domain: Domain | None = None,
    ) -> None:
        super().__init__(detail)
        self.headers = dict(headers or {})
        self.status = status or self.status
        self.title = title or self.title
        self.domain = domain


class BadRequestError(ProblemError, status=400, title="Bad request"):
    """The body, a parameter or a header is invalid."""


class NotAuthenticatedError(ProblemError, status=401, title="Not authenticated"):
    """The credential is missing or invalid."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, {"WWW-Authenticate": "Bearer"})


class NotAllowedError(ProblemError, status=403, title="Not allowed"):
    """The caller lacks permission."""


class NotFoundError(ProblemError, status=404, title="Not found"):
    """The model, version, result or path does not exist."""


class NotAcceptableError(ProblemError, status=406, title="Not acceptable"):
    """The result does not exist in the requested form."""


class RequestTimeoutError(ProblemError, status=408, title="Request timed out"):
    """The request body did not arrive in time."""


class ContentTooLargeError(ProblemError, status=413, title="Content too large"):
    """The request or response exceeds a size limit."""


class UnsupportedMediaTypeError(ProblemError, status=415, title="Unsupported media type"):
    """The request body has an unsupported media type."""


class UnprocessableError(ProblemError, status=422, title="Unusable request"):
    """A parameter is readable but not valid."""


class TooManyRequestsError(ProblemError, status=429, title="Too many requests"):
    """The caller exceeded a rate limit."""


class BadGatewayError(ProblemError, status=502, title="Bad gateway"):
    """The model server is unreachable, or its response is invalid."""


class UnavailableError(ProblemError, status=503, title="Service unavailable"):
    """A dependency is temporarily unavailable; the caller can retry."""


class GatewayTimeoutError(ProblemError, status=504, title="Gateway timed out"):
    """The model server or the storage did not respond in time."""


class UpstreamProblemError(ProblemError):
    """A problem reported by the model server, passed on unchanged."""
