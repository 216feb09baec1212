"""Who may see and delete whose results.

Callers with the role `read` or `manage` see the results of all clients, callers with `predict` alone see their own.
Callers delete their own results; deleting those of other clients requires `manage`.
"""

from gateway.access import Caller
from radserve.auth.api_keys import Role


def visible_client(caller: Caller) -> str | None:
    """Return the client whose results a caller may see; None for all. Raises NotAllowedError without a role."""
    if not caller.roles:
        caller.require(Role.PREDICT)
    return None if caller.roles & {Role.READ, Role.MANAGE} else caller.name


def require_deletable(caller: Caller, client: str) -> None:
    """Raise NotAllowedError if the caller may not delete a client's results."""
    if client != caller.name:
        caller.require(Role.MANAGE)
