"""/live, /ready and /metrics: whether the gateway runs, whether requests would be answered, and what it counts."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from gateway import problems, services
from gateway.access import Caller
from gateway.history import recorder
from gateway.metrics import REGISTRY
from radserve.auth.api_keys import Role

router = APIRouter(tags=["health"])


class State(BaseModel):
    """Whether requests are answered, and why not; what is wrong with the history stands in the log."""

    state: str
    detail: str
    history: recorder.State = "off"


class Alive(State):
    """Says also what this is: `radserve.client.client` tells a gateway from a server by `service`."""

    service: Literal["radserve-gateway"] = "radserve-gateway"


@router.get("/live", response_model=Alive)
async def live() -> Alive:
    """Say that the gateway runs."""
    return Alive(state="live", detail="The gateway runs.")


@router.get("/ready", response_model=State, responses={503: {"model": State}})
async def ready(request: Request) -> Response:
    """Say whether requests will be answered. A history that is down is said, and changes nothing about that."""
    found = services.of(request)
    problem = await found.backend.ready()
    state = State(
        state="ready" if problem is None else "waiting",
        detail=problem or "Requests are answered.",
        history=await found.keeping.state(),
    )
    return JSONResponse(state.model_dump(), 200 if problem is None else 503)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, 401: problems.DOCUMENTED[401], 403: problems.DOCUMENTED[403]},
)
async def metrics(request: Request, caller: Annotated[Caller, Depends(services.caller)]) -> Response:
    """Tell Prometheus what was counted; for the role `read`."""
    caller.require(Role.READ)
    await services.of(request).keeping.state()  # a gauge of it would else be as old as the last answer
    return Response(generate_latest(REGISTRY), headers={"content-type": CONTENT_TYPE_LATEST})
