"""Exceptions of the handlers, in one tree; every other package derives its errors from `RadServeError`."""

from collections.abc import Mapping
from typing import Any, ClassVar


class RadServeError(Exception):
    """Base class. The message names the thing, its value and what to do."""


class RequestError(RadServeError):
    """Base class of errors that become an HTTP response: status and title of the problem details (RFC 9457).

    Prometheus shows `reason` as a label. Dashboards and alerts query it: never change one.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    reason: ClassVar[str] = "InternalError"

    @property
    def members(self) -> Mapping[str, Any]:
        """Extension members of the problem details (RFC 9457, section 3.2)."""
        return {}


class BadRequestError(RequestError):
    """The body is not a valid request."""

    status, title, reason = 400, "Bad request", "BadRequest"


class UnreadableImageError(BadRequestError):
    """The image cannot be decoded."""

    title, reason = "Unreadable image", "UnreadableImage"


class MalformedAttributeError(UnreadableImageError):
    """An attribute of a DICOM object cannot be read; the others may be valid."""


class NotFoundError(RequestError):
    """The archive does not offer the requested operation."""

    status, title, reason = 404, "Not found", "NotFound"


class NotAcceptableError(RequestError):
    """The response has no representation that the client accepts."""

    status, title, reason = 406, "Not acceptable", "NotAcceptable"


class ContentTooLargeError(RequestError):
    """The request has more bytes or images than the limits allow."""

    status, title, reason = 413, "Content too large", "ContentTooLarge"


class UnsupportedMediaTypeError(RequestError):
    """The file type, transfer syntax or content coding is not supported."""

    status, title, reason = 415, "Unsupported media type", "UnsupportedMediaType"


class UnusableImageError(RequestError):
    """The image is readable, but a prediction on it would not be meaningful."""

    status, title, reason = 422, "Unusable image", "UnusableImage"


class OutOfScopeError(UnusableImageError):
    """The model was not made for such an image or patient."""

    title, reason = "Out of scope", "OutOfScope"


class MissingAttributeError(UnusableImageError):
    """Neither the image nor the client states an attribute that the operator requires."""

    title, reason = "Missing attribute", "MissingAttribute"


class UnlikeTrainingError(UnusableImageError):
    """The image is unlike the images that the model was trained on."""

    title, reason = "Unlike the training images", "UnlikeTraining"

    def __init__(self, message: str, members: Mapping[str, Any]) -> None:
        super().__init__(message)
        self._members = members

    @property
    def members(self) -> Mapping[str, Any]:
        """See `RequestError.members`: `domain`, the assessment of the image."""
        return self._members


class InternalError(RequestError):
    """The server failed; the request may be valid."""


class ServiceUnavailableError(RequestError):
    """Another worker, or a later attempt, can process the request."""

    status, title, reason = 503, "Service unavailable", "ServiceUnavailable"


class OverdueError(ServiceUnavailableError):
    """The time of the request is over; its other images are not processed."""


class RecipeError(RadServeError):
    """A recipe has an invalid key or value."""


class ScopeError(RadServeError):
    """The required attributes are invalid."""


class DomainModeError(RadServeError):
    """The mode of the domain check is invalid."""


class MetricsError(RadServeError):
    """Metrics with a reference of monitoring that is invalid."""


class DetectorError(RadServeError):
    """The detector of unlike images is damaged or does not match its recipe."""


class ProgramError(RadServeError):
    """An exported program is rejected or does not match its recipe."""


class DeviceLostError(ProgramError):
    """The accelerator's context is broken; only a new process gets a working one."""


class TracingError(RadServeError):
    """Traces are on, but cannot be sent."""


class UnknownVolumeError(RadServeError):
    """The volume of a stack of slices cannot be computed."""
