"""What every route needs, put together once."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from gateway.access import Access, Caller
from gateway.backend import Backend
from gateway.keeping import Keeping
from gateway.references import References
from gateway.settings import Settings


@dataclass(frozen=True)
class Services:
    """The parts of one gateway."""

    settings: Settings
    backend: Backend
    access: Access
    keeping: Keeping
    references: References


def of(request: Request) -> Services:
    """Return the services of the application that got a request."""
    found = request.app.state.services
    assert isinstance(found, Services)
    return found


async def caller(request: Request) -> Caller:
    """Return who asks, for a route's `Depends`; raises NotAuthenticated."""
    return await of(request).access.identify(request.headers)
