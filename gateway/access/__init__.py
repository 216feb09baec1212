"""Authentication and permissions: who sends a request, and what they may do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.errors import NotAllowedError
from radserve.auth.api_keys import Role

ALL_ROLES: Final = frozenset(Role)


@dataclass(frozen=True)
class Caller:
    """An authenticated caller; `name` is that of the API key, the token's subject, or `local`."""

    name: str
    roles: frozenset[Role]

    def require(self, role: Role) -> None:
        """Raise NotAllowedError if the caller lacks a role."""
        if role not in self.roles:
            raise NotAllowedError(f"{self.name} lacks the role '{role}', which this request requires.")


class Authenticator(Protocol):
    """Identifies callers by the headers of their requests (with lower-case or case-insensitive names)."""

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        """Return the caller; raises NotAuthenticatedError, or NotAllowedError if no credential would help."""
