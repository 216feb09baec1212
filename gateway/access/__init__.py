"""Who asks, and what they may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.errors import NotAllowedError
from radserve.auth.api_keys import Role

EVERYTHING: Final = frozenset(Role)


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes
    ----------
    name
        Name of the key, or subject of the token; `local` where nobody has to say.
    """

    name: str
    roles: frozenset[Role]

    def require(self, role: Role) -> None:
        """Raise NotAllowed without a role."""
        if role not in self.roles:
            raise NotAllowedError(f"{self.name} does not have the role '{role}', which this needs.")

    @property
    def whose(self) -> str | None:
        """Whose results it may see: its own, with the role `read` or `manage` everybody's (None)."""
        return None if self.roles & {Role.READ, Role.MANAGE} else self.name


class Access(Protocol):
    """Tells who asks."""

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        """Return the caller; raises NotAuthenticated, or NotAllowed where nothing would make a request welcome.

        `headers` are by lower-case name, or by any (Starlette's).
        """


class Open:
    """Takes everybody, from everywhere: for tests, and behind something that asks itself."""

    async def identify(self, headers: Mapping[str, str]) -> Caller:  # noqa: ARG002 - nobody is asked
        """Return the one caller that there is."""
        return Caller("local", EVERYTHING)
