"""/live, /ready, /auth and /metrics."""

from typing import Literal

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from gateway import problems, services
from gateway.history import recorder
from gateway.metrics import REGISTRY
from gateway.services import AuthenticatedCaller
from radserve.auth.api_keys import Role

router = APIRouter(tags=["health"])


class Readiness(BaseModel):
    """Whether requests are processed, and if not, the reason; the log has details about history and problems."""

    state: Literal["ready", "waiting"]
    detail: str
    history: recorder.State
    problems: list[str] = []


class Liveness(BaseModel):
    """State of the process; clients recognize a gateway by `service`."""

    state: Literal["live"] = "live"
    detail: str = "The gateway is running."
    service: Literal["radserve-gateway"] = "radserve-gateway"


@router.get("/live", operation_id="is_live", summary="Check that the gateway runs")
async def live() -> Liveness:
    """Return 200 while the gateway runs."""
    return Liveness()


@router.get(
    "/ready",
    operation_id="is_ready",
    summary="Check that predictions are possible",
    response_model=Readiness,
    responses={503: {"model": Readiness}},
)
async def ready(request: Request) -> Response:
    """Return 200 if predictions are possible, with or without the history; 503 and the reason otherwise."""
    parts = services.of(request)
    problem = await parts.backend.ready()
    readiness = Readiness(
        state="ready" if problem is None else "waiting",
        detail=problem or "Ready for requests.",
        history=await parts.recorder.state(),
        problems=parts.recorder.tasks.problems,
    )
    return JSONResponse(readiness.model_dump(), 200 if problem is None else 503)


@router.get("/auth", include_in_schema=False)
async def auth(request: Request) -> Response:
    """Return 204 if the credential is valid; nginx calls this before it reads a body (`auth_request`)."""
    await services.identify(request)
    return Response(status_code=204)


@router.get(
    "/metrics",
    operation_id="get_metrics",
    summary="Get Prometheus metrics",
    response_class=Response,
    responses=problems.document(401, 403) | {200: {"content": {"text/plain": {}}}},
)
async def metrics(request: Request, caller: AuthenticatedCaller) -> Response:
    """Return counts and durations of requests; requires the role `read`."""
    caller.require(Role.READ)
    await services.of(request).recorder.state()  # updates the gauge of the history
    return Response(generate_latest(REGISTRY), headers={"content-type": CONTENT_TYPE_LATEST})
