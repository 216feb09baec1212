"""Exceptions of the gateway.

RadServeError
├── SettingsError                   the gateway must not start
├── HistoryError                    the history store is unavailable
└── ProblemError                    becomes an HTTP response (problem details, RFC 9457)
    ├── BadRequestError             400
    ├── NotAuthenticatedError       401
    ├── NotAllowedError             403
    ├── NotFoundError               404
    ├── RequestTimeoutError         408
    ├── ContentTooLargeError        413
    ├── UnsupportedMediaTypeError   415
    ├── UnprocessableError          422
    ├── TooManyRequestsError        429
    ├── BadGatewayError             502
    ├── UnavailableError            503
    ├── GatewayTimeoutError         504
    └── UpstreamProblemError        status, title and detail of the model server
"""

from __future__ import annotations

from collections.abc import Mapping

from radserve.errors import RadServeError


class SettingsError(RadServeError):
    """The settings are invalid or unsafe, so the gateway does not start."""


class HistoryError(RadServeError):
    """The history store cannot be read or written."""


class ProblemError(RadServeError):
    """A request failed; rendered as problem details by `gateway.problems`.

    Parameters
    ----------
    detail
        What is wrong, and what to do about it.
    headers
        Additional header fields of the response.
    status, title
        Override those of the class.
    """

    status = 500
    title = "Internal error"

    def __init__(
        self, detail: str, headers: Mapping[str, str] | None = None, *, status: int = 0, title: str = ""
    ) -> None:
        super().__init__(detail)
        self.headers = dict(headers or {})
        self.status = status or self.status
        self.title = title or self.title


class BadRequestError(ProblemError):
    """The body, a parameter or a header is invalid."""

    status = 400
    title = "Bad request"


class NotAuthenticatedError(ProblemError):
    """The credential is missing or invalid."""

    status = 401
    title = "Not authenticated"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, {"WWW-Authenticate": "Bearer"})


class NotAllowedError(ProblemError):
    """The caller lacks permission."""

    status = 403
    title = "Not allowed"


class NotFoundError(ProblemError):
    """The model, version, result or path does not exist."""

    status = 404
    title = "Not found"


class RequestTimeoutError(ProblemError):
    """The request body did not arrive in time."""

    status = 408
    title = "Request timed out"


class ContentTooLargeError(ProblemError):
    """The request or response exceeds a size limit."""

    status = 413
    title = "Content too large"


class UnsupportedMediaTypeError(ProblemError):
    """The request body has an unsupported media type."""

    status = 415
    title = "Unsupported media type"


class UnprocessableError(ProblemError):
    """A parameter is readable but not valid."""

    status = 422
    title = "Unusable request"


class TooManyRequestsError(ProblemError):
    """The caller exceeded a rate limit."""

    status = 429
    title = "Too many requests"


class BadGatewayError(ProblemError):
    """The model server is unreachable, or its response is invalid."""

    status = 502
    title = "Bad gateway"


class UnavailableError(ProblemError):
    """A dependency is temporarily unavailable; the caller can retry."""

    status = 503
    title = "Service unavailable"


class GatewayTimeoutError(ProblemError):
    """The model server or the storage did not respond in time."""

    status = 504
    title = "Gateway timed out"


class UpstreamProblemError(ProblemError):
    """A problem reported by the model server, passed on unchanged."""
