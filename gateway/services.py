"""Services shared by all routes, and the dependency that authenticates the caller."""

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from gateway.access import Authenticator, Caller
from gateway.backends.base import Backend
from gateway.errors import NotAuthenticatedError
from gateway.history.recorder import HistoryRecorder
from gateway.pacs_loop import PacsLoop
from gateway.rate_limit import AuthFailureLimiter, RateLimiter
from gateway.settings import Settings
from gateway.uploads.presigned import UploadStore
from gateway.uploads.url_fetcher import UrlFetcher
from radserve.tracing import Tracer


@dataclass(frozen=True)
class Services:
    """The parts of one application."""

    settings: Settings
    backend: Backend
    authenticator: Authenticator
    recorder: HistoryRecorder
    rate_limiter: RateLimiter | None = None
    auth_failures: AuthFailureLimiter = field(default_factory=AuthFailureLimiter)
    uploads: UploadStore | None = None
    url_fetcher: UrlFetcher | None = None
    pacs: PacsLoop | None = None
    tracer: Tracer = field(default_factory=Tracer)


def of(request: Request) -> Services:
    """Return the services of the application that handles a request."""
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


async def identify(request: Request) -> Caller:
    """Return the caller; raises a ProblemError with status 401, 403, 429 or 503."""
    services = of(request)
    try:
        caller = await services.authenticator.identify(request.headers)
    except NotAuthenticatedError:
        services.auth_failures.count(request.client.host if request.client else "")
        raise
    request.state.caller = caller.name
    return caller


async def authenticate(request: Request) -> Caller:
    """Return the caller, counted against the rate limit; raises a ProblemError with status 401, 403, 429 or 503."""
    services, caller = of(request), await identify(request)
    if services.rate_limiter is not None:
        await services.rate_limiter.count(caller.name)
    return caller


AuthenticatedCaller = Annotated[Caller, Depends(authenticate)]
"""Parameter type of a route that needs a caller."""
