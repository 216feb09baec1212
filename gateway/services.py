"""What every route needs, put together once."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastapi import Request

from gateway.access import Access, Caller
from gateway.backends.base import Backend
from gateway.errors import NotAuthenticatedError
from gateway.history.recorder import HistoryRecorder
from gateway.rate_limit import AuthFailureLimiter, Rate
from gateway.settings import Settings
from gateway.uploads.presigned import Uploads
from gateway.uploads.references import References


@dataclass(frozen=True)
class Services:
    """The parts of one gateway.

    Attributes
    ----------
    rate
        None where nobody's requests are counted.
    uploads
        None where they are off.
    """

    settings: Settings
    backend: Backend
    access: Access
    keeping: HistoryRecorder
    references: References
    rate: Rate | None = None
    wrong: AuthFailureLimiter = field(default_factory=AuthFailureLimiter)
    uploads: Uploads | None = None


def of(request: Request) -> Services:
    """Return the services of the application that got a request."""
    found = request.app.state.services
    assert isinstance(found, Services)
    return found


async def caller(request: Request) -> Caller:
    """Return who asks, for a route's `Depends`.

    Raises
    ------
    NotAuthenticated, NotAllowed, TooManyRequests, Unavailable
        If that is nobody who may ask now.
    """
    found = of(request)
    try:
        known = await found.access.identify(request.headers)
    except NotAuthenticatedError:
        found.wrong.count(request.client.host if request.client else "")
        raise
    request.state.caller = known.name
    if found.rate is not None:
        await found.rate.count(known.name)
    return known
