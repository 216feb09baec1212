"""/api/cases: what the PACS loop does with the images that it receives; requires the role `manage`."""

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request

from gateway import pacs_loop, problems, services
from gateway.access import Caller
from gateway.pacs_loop import PacsLoop
from gateway.services import AuthenticatedCaller
from radserve.auth.api_keys import Role
from radserve.schema.cases import Cases, CaseState, Resent

router = APIRouter(prefix="/api/cases", tags=["cases"])

CaseId = Annotated[int, Path(ge=1, lt=10**15, description="`id` of a case.")]
State = Annotated[CaseState | None, Query(description="State of the cases.")]
After = Annotated[int | None, Query(ge=1, lt=10**15, description="`next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=200, description="Cases of a page.")]

_PROBLEMS: Final = problems.document(401, 403, 404, 422, 429, 502, 503)
_CONFLICT: Final = _PROBLEMS | problems.document(409)


@router.get("", operation_id="list_cases", summary="List the cases of the PACS loop", responses=_PROBLEMS)
async def cases(
    request: Request, caller: AuthenticatedCaller, state: State = None, after: After = None, limit: Limit = 50
) -> Cases:
    """Return a page of cases, the newest first, with the number of all cases by state."""
    chosen = {"state": state, "after": after, "limit": limit}
    return await _loop(request, caller).cases({name: value for name, value in chosen.items() if value is not None})


@router.post("/resend", operation_id="resend_cases", summary="Resend all failed cases", responses=_CONFLICT)
async def resend_all(request: Request, caller: AuthenticatedCaller) -> Resent:
    """Return all cases in the state `dead` to the queue."""
    return await _loop(request, caller).resend()


@router.post("/{case_id}/resend", operation_id="resend_case", summary="Resend a failed case", responses=_CONFLICT)
async def resend(request: Request, caller: AuthenticatedCaller, case_id: CaseId) -> Resent:
    """Return a case in the state `dead` to the queue."""
    return await _loop(request, caller).resend(case_id)


def _loop(request: Request, caller: Caller) -> PacsLoop:
    caller.require(Role.MANAGE)
    loop = services.of(request).pacs
    if loop is None:
        raise pacs_loop.disabled()
    return loop
