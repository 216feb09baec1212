"""Every exception of RadServe, in one tree.

A `RequestError` is somebody's answer: it carries the HTTP status and renders as
problem details (RFC 9457). Every other branch stops a build or a start.
"""

from __future__ import annotations


class RadServeError(Exception):
    """Root of the tree; its text names the thing, its value and the way out."""


class RequestError(RadServeError):
    """One request, or one image of it, cannot be answered."""

    status = 500
    title = "Internal error"


class BadRequestError(RequestError):
    """The body cannot be read as a request."""

    status = 400
    title = "Bad request"


class UnreadableImageError(BadRequestError):
    """The bytes claim to be an image and cannot be decoded."""

    title = "Unreadable image"


class NotFoundError(RequestError):
    """The archive does not offer what the path asks for."""

    status = 404
    title = "Not found"


class NotAcceptableError(RequestError):
    """No representation that the client accepts can be produced."""

    status = 406
    title = "Not acceptable"


class ContentTooLargeError(RequestError):
    """More bytes than this server reads."""

    status = 413
    title = "Content too large"


class UnsupportedMediaTypeError(RequestError):
    """Not an image type, transfer syntax or content coding that is read here."""

    status = 415
    title = "Unsupported media type"


class UnusableImageError(RequestError):
    """The image can be read, but an answer to it would mean nothing."""

    status = 422
    title = "Unusable image"


class InternalError(RequestError):
    """The fault is ours; the request may be right."""


class ServiceUnavailableError(RequestError):
    """Cannot be answered now, but by another worker or at a later attempt."""

    status = 503
    title = "Service unavailable"


class RecipeError(RadServeError):
    """A recipe has a wrong key or value."""


class ProgramError(RadServeError):
    """An exported program is refused or does not do what its recipe says."""
