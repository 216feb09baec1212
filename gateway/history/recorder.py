"""Keeping results without ever costing an answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime
from typing import Final, Literal

from gateway.errors import HistoryError
from gateway.history import History, Result
from gateway.history.images import Images
from gateway.metrics import HISTORY, HISTORY_UP, IMAGES
from gateway.settings import Settings
from gateway.uploads.request_body import Body

logger = logging.getLogger(__name__)

Kept = Literal["kept", "off", "unavailable"]
State = Literal["ok", "off", "unavailable"]

_PATIENCE: Final = 1.0
"""Seconds that an answer waits for the history."""
_PERIOD: Final = 3600.0
"""Seconds between two looks for what is too old."""


class HistoryRecorder:
    """Puts results into the history, if there is one, and takes the old ones out.

    While the history is down, one answer at a time tries it, so that the others do not wait for what does not answer.

    Parameters
    ----------
    history
        None where nothing is kept.
    images
        Where images are kept with their results; None where they are not.
    """

    def __init__(self, history: History | None, settings: Settings, images: Images | None = None) -> None:
        self.history = history
        self.images = images
        self._settings = settings
        self._up = HISTORY_UP.labels(store=settings.history.partition(":")[0]) if history else None
        self._expiring: asyncio.Task[None] | None = None
        self._down = False
        self._trying = 0

    async def keep(self, results: Sequence[Result], body: Body | None = None) -> Kept:
        """Keep results, and the images of the body that they answer; say whether the results are kept.

        "unavailable" says that this is not sure: what was under way when the patience ended may have been done.
        """
        if self.history is None:
            return "off"
        if (self._down and self._trying) or not await self._add(self.history, results):
            HISTORY.labels(outcome="lost").inc(len(results))
            return "unavailable"
        HISTORY.labels(outcome="kept").inc(len(results))
        if self.images is not None and body is not None:
            await self._keep_images(self.images, results, body)
        return "kept"

    async def state(self) -> State:
        """Say whether results can be kept now."""
        if self.history is None:
            return "off"
        return "ok" if await self._tried(self.history.ping()) else "unavailable"

    async def forget(self, identity: str) -> None:
        """Forget a result and its image.

        Raises
        ------
        HistoryError
            If that is not possible now; the result is still there then.
        """
        assert self.history is not None
        if self.images is not None:
            await self.images.delete(identity)
        await self.history.delete(identity)

    async def open(self) -> None:
        """Prepare the history; where that fails, answers are given without it."""
        if self.history is None:
            return
        await self._tried(self.history.open())
        self._expiring = asyncio.create_task(self._expire(self.history))

    async def close(self) -> None:
        """End it."""
        if self._expiring is not None:
            self._expiring.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._expiring
        if self.history is not None:
            await self.history.close()

    async def _add(self, history: History, results: Sequence[Result]) -> bool:
        self._trying += 1
        try:
            return await self._tried(history.add(results))
        finally:
            self._trying -= 1

    async def _tried(self, use: Awaitable[None]) -> bool:
        try:
            async with asyncio.timeout(_PATIENCE):
                await use
        except (HistoryError, TimeoutError) as error:
            self._tell(error)
            return False
        self._tell(None)
        return True

    async def _keep_images(self, images: Images, results: Sequence[Result], body: Body) -> None:
        kept = 0
        try:
            async with asyncio.timeout(_PATIENCE):
                kept = await images.keep(results, body)
        except (HistoryError, TimeoutError) as error:
            logger.warning("images are not kept: %s", str(error) or "their folder is too slow")
        IMAGES.labels(outcome="kept").inc(kept)
        IMAGES.labels(outcome="lost").inc(len(results) - kept)

    def _tell(self, error: HistoryError | TimeoutError | None) -> None:
        """Say once that the history is down, and once that it is back."""
        assert self._up is not None
        if error is not None and not self._down:
            logger.error("results are not kept: %s", str(error) or "the history does not answer")
        if error is None and self._down:
            logger.warning("results are kept again")
        self._down = error is not None
        self._up.set(not self._down)

    async def _expire(self, history: History) -> None:
        while True:
            before = datetime.now(UTC) - self._settings.kept_for
            try:
                gone = await history.expire(before)
                if self.images is not None:
                    await self.images.expire(before)
            except HistoryError as error:
                logger.warning("old results stay for now: %s", error)
            else:
                if gone:
                    logger.info("%d results were older than %g days and are gone", gone, self._settings.retention)
            await asyncio.sleep(_PERIOD)
