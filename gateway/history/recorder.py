"""Records results in the history without failing or delaying predictions."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from gateway.errors import HistoryError, SettingsError
from gateway.history import NO_DETAILS, Details, History, Result
from gateway.history.images import ImageStore
from gateway.history.sqlite import SqliteHistory
from gateway.metrics import HISTORY, HISTORY_UP, IMAGES
from gateway.settings import PREFIX, Settings
from gateway.uploads.request_body import RequestBody
from radserve.host.background import BackgroundTasks
from radserve.schema.history import HistoryState

logger = logging.getLogger(__name__)

State = Literal["ok", "off", "unavailable"]

_TIMEOUT: Final = 1.0
"""Seconds that a prediction waits for the history."""
_EXPIRY_INTERVAL: Final = 3600.0
_SETTING: Final = f"{PREFIX}HISTORY"


class HistoryRecorder:
    """Records results and their images, and deletes old ones; without a history, nothing.

    While the history is unavailable, one request at a time tries it; the others skip it without waiting.
    """

    def __init__(self, history: History | None, settings: Settings, images: ImageStore | None = None) -> None:
        self.history = history
        self.images = images
        self._settings = settings
        self._gauge = HISTORY_UP.labels(store=settings.history.partition(":")[0]) if history else None
        self.tasks = BackgroundTasks()
        self._available = True
        self._attempts = 0

    async def record(
        self, results: Sequence[Result], body: RequestBody | None = None, details: Mapping[str, Details] = NO_DETAILS
    ) -> HistoryState:
        """Record results, their details, and the images in the request body; "kept" if the results are recorded.

        After "unavailable" they may be: a write that timed out may succeed later.
        """
        state = await self._record(len(results), lambda history: history.add(results, details))
        if state == "kept" and self.images is not None and body is not None:
            await self._add_images(self.images, results, body)
        return state

    async def record_explanations(
        self, results: Sequence[Result], body: RequestBody, details: Mapping[str, Details]
    ) -> tuple[HistoryState, Mapping[str, Result]]:
        """Record explanations with their predictions, those without one as `record` does.

        Returns the predictions by the ids of their explanations, which are not used.
        """
        predictions: dict[str, Result] = {}

        async def add(history: History) -> None:
            predictions.update(await history.add_explanations(results, details))

        state = await self._record(len(results), add)
        if state == "kept" and self.images is not None:
            owners = [predictions.get(result.id, result) for result in results]
            await self._add_images(self.images, owners, body)
            await self._delete_orphaned_images(self.images, predictions.values())
        return state, predictions

    async def state(self) -> State:
        """Return whether results can be recorded now."""
        if self.history is None:
            return "off"
        return "ok" if await self._attempt(self.history.ping()) else "unavailable"

    async def delete(self, result_id: str) -> None:
        """Delete a result and its image; raises HistoryError if the history is unavailable, and the result remains."""
        assert self.history is not None
        if self.images is not None:
            await self.images.delete(result_id)
        await self.history.delete(result_id)
        if self.images is not None:
            with contextlib.suppress(HistoryError):  # only an explanation at the same time adds the image again
                await self.images.delete(result_id)

    async def open(self) -> None:
        """Open the history and start to delete old results; predictions work even if the history is unavailable."""
        if self.history is None:
            return
        await self._attempt(self.history.ping())
        history = self.history
        self.tasks.start("deletion of old results", lambda: self._expire(history))

    async def close(self) -> None:
        """Close the history."""
        await self.tasks.stop()
        if self.history is not None:
            await self.history.close()

    async def _record(self, count: int, write: Callable[[History], Awaitable[None]]) -> HistoryState:
        if self.history is None:
            return "off"
        if (not self._available and self._attempts) or not await self._write(write(self.history)):
            HISTORY.labels(outcome="lost").inc(count)
            return "unavailable"
        HISTORY.labels(outcome="kept").inc(count)
        return "kept"

    async def _write(self, operation: Awaitable[None]) -> bool:
        self._attempts += 1
        try:
            return await self._attempt(operation)
        finally:
            self._attempts -= 1

    async def _attempt(self, operation: Awaitable[None]) -> bool:
        try:
            async with asyncio.timeout(_TIMEOUT):
                await operation
        except (HistoryError, TimeoutError) as error:
            self._record_state(error)
            return False
        self._record_state(None)
        return True

    async def _add_images(self, images: ImageStore, results: Sequence[Result], body: RequestBody) -> None:
        count = 0
        try:
            async with asyncio.timeout(_TIMEOUT):
                count = await images.add(results, body)
        except (HistoryError, TimeoutError) as error:
            logger.warning("images not recorded: %s", str(error) or "their folder is too slow")
        IMAGES.labels(outcome="kept").inc(count)
        IMAGES.labels(outcome="lost").inc(len(results) - count)

    def _record_state(self, error: HistoryError | TimeoutError | None) -> None:
        """Log changes of the state, and update the gauge."""
        assert self._gauge is not None
        if error is not None and self._available:
            logger.error("results are not recorded: %s", str(error) or "the history does not respond")
        if error is None and not self._available:
            logger.warning("results are recorded again")
        self._available = error is None
        self._gauge.set(self._available)

    async def _delete_orphaned_images(self, images: ImageStore, results: Iterable[Result]) -> None:
        """Delete the images of results that were deleted before their images were added."""
        assert self.history is not None
        try:
            async with asyncio.timeout(_TIMEOUT):
                for result in results:
                    if await self.history.get(result.id) is None:
                        await images.delete(result.id)
        except (HistoryError, TimeoutError) as error:
            logger.warning("images of deleted results not checked: %s", str(error) or "the history is too slow")

    async def _expire(self, history: History) -> None:
        while True:
            before = datetime.now(UTC) - self._settings.retention_period
            try:
                count = await history.expire(before)
                if self.images is not None:
                    await self.images.expire(before)
            except HistoryError as error:
                logger.warning("old results not deleted: %s", error)
            else:
                if count:
                    logger.info("deleted %d results older than %g days", count, self._settings.retention)
            await asyncio.sleep(_EXPIRY_INTERVAL)


def create(settings: Settings) -> HistoryRecorder:
    """Create a recorder; raises SettingsError without the setting's value, which may hold a password."""
    history = _create_history(settings)
    if settings.images is None:
        return HistoryRecorder(history, settings)
    if history is None:
        raise SettingsError(f"{PREFIX}IMAGES requires a history, but {_SETTING} is 'none'.")
    return HistoryRecorder(history, settings, ImageStore(settings.images))


def _create_history(settings: Settings) -> History | None:
    kind, colon, rest = settings.history.partition(":")
    if settings.history == "none":
        return None
    if kind == "sqlite" and colon:
        return SqliteHistory(_parse_path(rest))
    if kind in ("redis", "rediss") and colon:
        from gateway.history.redis import RedisHistory  # takes 0.2 s to import

        return RedisHistory(_validate_url(settings.history), settings.retention_period)
    raise SettingsError(
        f"{_SETTING} is invalid; use sqlite:PATH, redis://[:PASSWORD@]HOST[:PORT]/[DB], rediss://... or none."
    )


def _parse_path(text: str) -> Path:
    if not text or text.startswith(("//", ":")) or text.endswith("/"):
        raise SettingsError(f"{_SETTING}: sqlite: must be followed by a file path, as in sqlite:state/history.sqlite3.")
    return Path(text)


def _validate_url(url: str) -> str:
    """Return a URL unchanged; redis-py would ignore invalid parts, or take them for its own options."""
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        has_host = False
    database = parts.path.removeprefix("/") if has_host else ""
    if not has_host or parts.query or parts.fragment or not (database or "0").isdecimal() or not database.isascii():
        raise SettingsError(
            f"{_SETTING} is not a Redis URL; use redis://[USER:PASSWORD@]HOST[:PORT]/[DB], or rediss:// for TLS. "
            "Percent-encode special characters of the password."
        )
    return url
