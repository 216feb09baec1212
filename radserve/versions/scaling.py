"""Changes the number of a version's workers without losing requests."""

import asyncio
from dataclasses import dataclass
from typing import Final

from radserve.errors import ConflictError
from radserve.torchserve.registry import ModelRegistry, ModelVersion
from radserve.versions.request_hold import RequestHold

_MAX_BUSY: Final = 10.0
"""Seconds for which requests wait until a version has answered earlier ones, before its workers are not reduced."""


@dataclass
class Scaling:
    """Changes workers; before it ends one, it waits `settle` seconds for the bodies of earlier requests."""

    registry: ModelRegistry
    hold: RequestHold
    settle: float

    async def scale(self, before: ModelVersion, workers: int) -> None:
        """Start workers, or end some while no request of the model is in progress; ConflictError if it stays busy."""
        if workers >= before.workers:
            await self.registry.scale(before, workers)
            return
        name = before.entry.name
        async with self.hold.watched(name):
            await asyncio.sleep(self.settle)
            async with self.hold.held(name) as released:
                if not await self.registry.idle(before, _MAX_BUSY) or released.is_set():
                    raise ConflictError(f"{before} was busy for {_MAX_BUSY:g} s; nothing was changed. Try again later.")
                await self.registry.scale(before, workers, released.set)
