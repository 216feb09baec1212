"""A history that works, fails or hangs."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from gateway.errors import HistoryError
from gateway.history import NO_DETAILS, Details, Page, Query, Result


class Failing:
    """Stores results in a list; `state` selects its behaviour."""

    def __init__(self, state: Literal["up", "down", "silent"] = "up") -> None:
        self.state = state
        self.results: list[Result] = []
        self.attempts = 0
        self.expired: list[datetime] = []
        self.thrice = asyncio.Event()
        self.finds_left: int | None = None

    async def _use(self) -> None:
        self.attempts += 1
        if self.state == "silent":
            await asyncio.sleep(3600)
        if self.state == "down":
            raise HistoryError("/var/lib/secret cannot be used.")

    async def add(self, results: Sequence[Result], _details: Mapping[str, Details] = NO_DETAILS) -> None:
        await self._use()
        self.results = [*results, *self.results]

    async def find(self, query: Query) -> Page:
        """Return pages of one result; fail after `finds_left` pages."""
        if self.finds_left is not None:
            self.finds_left -= 1
            self.state = "down" if self.finds_left < 0 else "up"
        await self._use()
        at = int(query.cursor or 0)
        return Page(results=tuple(self.results[at : at + 1]), next=str(at + 1) if at + 1 < len(self.results) else None)

    async def get(self, identity: str) -> Result | None:
        await self._use()
        return next((item for item in self.results if item.id == identity), None)

    async def details(self, _identity: str) -> Details | None:
        await self._use()
        return None

    async def add_explanations(
        self, results: Sequence[Result], details: Mapping[str, Details] = NO_DETAILS
    ) -> Mapping[str, Result]:
        await self.add(results, details)
        return {}

    async def delete(self, identity: str) -> bool:
        await self._use()
        before = len(self.results)
        self.results = [item for item in self.results if item.id != identity]
        return len(self.results) < before

    async def expire(self, before: datetime) -> int:
        await self._use()
        self.expired.append(before)
        if len(self.expired) == 3:
            self.thrice.set()
        return 0

    async def ping(self) -> None:
        await self._use()

    async def close(self) -> None:
        pass
