"""Who may see and delete whose results.

Callers with the role `read` or `manage` see the results of all clients, callers with `predict` alone see their own.
Callers delete their own results; deleting those of other clients requires `manage`.
"""

from __future__ import annotations

from gateway.access import Caller
from gateway.errors import NotFoundError
from gateway.history import Result
from radserve.auth.api_keys import Role


def visible_client(caller: Caller) -> str | None:
    """Return the client whose results a caller may see; None for all clients.

    Raises
    ------
    NotAllowedError
        If the caller has no role.
    """
    if not caller.roles:
        caller.require(Role.PREDICT)
    return None if caller.roles & {Role.READ, Role.MANAGE} else caller.name


def require_visible(caller: Caller, result: Result | None, result_id: str) -> Result:
    """Return a result if it exists and the caller may see it.

    Raises
    ------
    NotFoundError
        Otherwise; the response does not reveal whether the result exists.
    """
    if result is None or visible_client(caller) not in (None, result.client):
        raise NotFoundError(f"Unknown result {result_id}. It may be deleted, or belong to another client.")
    return result


def require_deletable(caller: Caller, result: Result) -> None:
    """Raise NotAllowedError if the caller may not delete a result."""
    if result.client != caller.name:
        caller.require(Role.MANAGE)
