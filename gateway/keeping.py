"""Keeping results without ever costing an answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Literal

from gateway.errors import HistoryError
from gateway.history import History, Result
from gateway.metrics import HISTORY
from gateway.settings import Settings

logger = logging.getLogger(__name__)

Kept = Literal["kept", "off", "unavailable"]

_PATIENCE: Final = 1.0
"""Seconds that an answer waits for the history."""
_PERIOD: Final = 3600.0
"""Seconds between two looks for what is too old."""


class Keeping:
    """Puts results into the history, if there is one, and takes the old ones out.

    Parameters
    ----------
    history
        None where nothing is kept.
    """

    def __init__(self, history: History | None, settings: Settings) -> None:
        self.history = history
        self._settings = settings
        self._expiring: asyncio.Task[None] | None = None
        self._down = False

    async def keep(self, results: Sequence[Result]) -> Kept:
        """Keep results; say whether that was possible."""
        if self.history is None:
            return "off"
        try:
            async with asyncio.timeout(_PATIENCE):
                await self.history.add(results)
        except (HistoryError, TimeoutError) as error:
            HISTORY.labels(outcome="lost").inc(len(results))
            if not self._down:
                logger.error("results are not kept: %s", str(error) or "the history does not answer")  # noqa: TRY400 - said in full
            self._down = True
            return "unavailable"
        if self._down:
            logger.warning("results are kept again")
        self._down = False
        HISTORY.labels(outcome="kept").inc(len(results))
        return "kept"

    async def open(self) -> None:
        """Prepare the history; where that fails, answers are given without it."""
        if self.history is None:
            return
        try:
            await self.history.open()
        except HistoryError as error:
            self._down = True
            logger.error("results are not kept: %s", error)  # noqa: TRY400 - said in full
        self._expiring = asyncio.create_task(self._expire())

    async def close(self) -> None:
        """End it."""
        if self._expiring is not None:
            self._expiring.cancel()
        if self.history is not None:
            await self.history.close()

    async def _expire(self) -> None:
        assert self.history is not None
        while True:
            try:
                gone = await self.history.expire(datetime.now(UTC) - self._settings.kept_for)
            except HistoryError as error:
                logger.warning("old results stay for now: %s", error)
            else:
                if gone:
                    logger.info("%d results were older than %g days and are gone", gone, self._settings.retention)
            await asyncio.sleep(_PERIOD)
