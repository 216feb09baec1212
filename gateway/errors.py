"""What the gateway refuses or cannot do: a branch of the project's tree of exceptions."""

from __future__ import annotations

from collections.abc import Mapping

from radserve.errors import RadServeError


class ProblemError(RadServeError):
    """One request's answer, rendered as problem details (RFC 9457).

    Attributes
    ----------
    headers
        Header fields that the answer has beside the usual ones.
    """

    status = 500
    title = "Internal error"

    def __init__(self, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.headers = dict(headers or {})


class BadRequestError(ProblemError):
    """The request itself is wrong: its body, a parameter or a header."""

    status = 400
    title = "Bad request"


class NotAuthenticatedError(ProblemError):
    """No key or token, or none that is valid."""

    status = 401
    title = "Not authenticated"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, {"WWW-Authenticate": "Bearer"})


class NotAllowedError(ProblemError):
    """The caller may not do this."""

    status = 403
    title = "Not allowed"


class NotFoundError(ProblemError):
    """There is no such model, version, result or path."""

    status = 404
    title = "Not found"


class RequestTimeoutError(ProblemError):
    """The body did not come in time."""

    status = 408
    title = "Request timed out"


class ContentTooLargeError(ProblemError):
    """More bytes than the gateway takes."""

    status = 413
    title = "Content too large"


class UnsupportedMediaTypeError(ProblemError):
    """A form of body that is not read here."""

    status = 415
    title = "Unsupported media type"


class UnusableInputError(ProblemError):
    """What the request names can be read, but not be used."""

    status = 422
    title = "Unusable request"


class TooManyRequestsError(ProblemError):
    """The caller has sent more than it may."""

    status = 429
    title = "Too many requests"


class BadGatewayError(ProblemError):
    """The server behind the gateway cannot be reached, or answered what is no answer."""

    status = 502
    title = "Bad gateway"


class UnavailableError(ProblemError):
    """Cannot be answered now, but later."""

    status = 503
    title = "Service unavailable"


class GatewayTimeoutError(ProblemError):
    """The server behind the gateway did not answer in time."""

    status = 504
    title = "Gateway timed out"


class SettingsError(RadServeError):
    """The gateway is configured so that it cannot or must not start."""


class HistoryError(RadServeError):
    """The history cannot be read or written now; no answer depends on it."""
