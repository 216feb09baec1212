"""The versions that TorchServe holds: registered, scaled, made the default, taken away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx

from radserve.build.model_store import Entry, order
from radserve.errors import VersionFailedError
from radserve.torchserve import launch, worker_locks
from radserve.torchserve.launch import Management
from radserve.torchserve.verified_models import VerifiedModel

Pair = tuple[str, str]
"""Name and version."""

_SETTLE: Final = 0.5
"""Seconds that a version has to be seen idle: longer than a request is neither in its queue nor in a worker."""


@dataclass(frozen=True)
class WorkerStatus:
    """The workers of one archive: how many there should be, how many can answer, and which part of the requests."""

    entry: Entry
    wanted: int
    ready: int
    share: float = 1.0


@dataclass(frozen=True)
class ModelVersion:
    """A version that TorchServe holds.

    Attributes
    ----------
    workers
        That it should have.
    ready
        Workers that can answer, as last heard of.
    registered
        When TorchServe was told of it.
    """

    served: VerifiedModel
    workers: int
    registered: datetime
    ready: int = 0

    @property
    def entry(self) -> Entry:
        """Its entry in the model store's index."""
        return self.served.entry

    @property
    def pair(self) -> Pair:
        """Name and version."""
        return self.entry.name, self.entry.version

    def __str__(self) -> str:
        return f"{self.entry.name} {self.entry.version}"


class ModelRegistry:
    """All versions that TorchServe holds; what is done to them is done here."""

    def __init__(self, members: Iterable[ModelVersion], management: Management, busy_file: Path) -> None:
        self._members = {item.pair: item for item in members}
        self._management = management
        self._busy = busy_file

    def __iter__(self) -> Iterator[ModelVersion]:
        return iter(sorted(self._members.values(), key=lambda item: (item.entry.name, order(item.entry.version))))

    def get(self, name: str, version: str) -> ModelVersion | None:
        """Return a version that is registered."""
        return self._members.get((name, version))

    def of(self, name: str) -> list[ModelVersion]:
        """Return the registered versions of a model, the oldest first."""
        return [item for item in self if item.entry.name == name]

    @property
    def crews(self) -> list[WorkerStatus]:
        """The workers of each version, as last heard of."""
        return [WorkerStatus(item.entry, item.workers, item.ready) for item in self]

    async def look(self) -> None:
        """Hear from TorchServe how many workers can answer.

        Raises
        ------
        httpx.HTTPError
            If TorchServe does not answer.
        """
        for member in list(self._members.values()):
            try:
                ready = launch.ready_workers(await self._management.describe(*member.pair))
            except httpx.HTTPStatusError:
                ready = 0  # taken away behind our back, or not loaded yet
            known = self._members.get(member.pair)
            if known is not None:
                self._members[member.pair] = replace(known, ready=ready)

    def forget_workers(self) -> None:
        """Count no worker as ready, since nothing is known of them."""
        self._members = {pair: replace(item, ready=0) for pair, item in self._members.items()}

    async def register(self, served: VerifiedModel, workers: int) -> ModelVersion:
        """Tell TorchServe of a version and start its workers; nothing is left of one that does not start.

        Raises
        ------
        Failed
            If a worker does not become ready.
        """
        member = ModelVersion(served, workers, datetime.now(UTC).replace(microsecond=0))
        await self._management.register(served.entry)
        self._members[member.pair] = member
        try:
            await self._start(member, workers)
        except BaseException:
            await asyncio.shield(self.unregister(member))
            raise
        return self._members[member.pair]

    async def _start(self, member: ModelVersion, workers: int) -> None:
        try:
            # One first: where it dies, TorchServe says so at once, and not after a worker each.
            for count in sorted({1, workers}):
                await self._management.scale(*member.pair, count)
        except httpx.HTTPStatusError as error:
            raise VersionFailedError(
                f"{member}: a worker of it ended before it was ready; the log says why."
            ) from error
        await self.look()

    async def scale(self, member: ModelVersion, workers: int) -> ModelVersion:
        """Change the number of workers.

        Raises
        ------
        Failed
            If a new one does not become ready.
        """
        try:
            await self._management.scale(*member.pair, workers)
        except httpx.HTTPStatusError as error:
            raise VersionFailedError(
                f"{member}: {workers} workers did not all become ready; the log says why."
            ) from error
        self._members[member.pair] = replace(member, workers=workers)
        await self.look()
        return self._members[member.pair]

    async def make_default(self, member: ModelVersion) -> None:
        """Let TorchServe answer requests that name no version by this one."""
        await self._management.set_default(*member.pair)

    async def unregister(self, member: ModelVersion) -> None:
        """Take a version away; what it has in hand would be lost (see `idle`)."""
        self._members.pop(member.pair, None)
        await self._management.unregister(*member.pair)

    async def idle(self, member: ModelVersion, patience: float) -> bool:
        """Wait until a version has answered all that it was asked.

        Returns
        -------
        Whether it was idle for `_SETTLE` seconds on end within `patience` seconds.
        """
        start = since = time.monotonic()
        while (now := time.monotonic()) - start < patience:
            described = await self._management.describe(*member.pair)
            if launch.pending(described) or worker_locks.anyone(self._busy, launch.pids(described)):
                since = now
            elif now - since >= _SETTLE:
                return True
            await asyncio.sleep(0.05)
        return False

    async def align(self) -> None:
        """After a start: give each version the workers that it should have.

        Raises
        ------
        httpx.HTTPError
            If TorchServe does not do it.
        """
        for member in self:
            described = await self._management.describe(*member.pair)
            if int(described["minWorkers"]) != member.workers:
                await self._management.scale(*member.pair, member.workers)
