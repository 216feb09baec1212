"""Creates the history store that the settings describe."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gateway.errors import SettingsError
from gateway.history import History
from gateway.history.images import ImageStore
from gateway.history.recorder import HistoryRecorder
from gateway.history.sqlite import SqliteHistory
from gateway.settings import PREFIX, Settings

_NAME: Final = f"{PREFIX}HISTORY"


def create(settings: Settings) -> HistoryRecorder:
    """Create a recorder; `HistoryRecorder.open` connects it.

    Raises
    ------
    SettingsError
        If the setting is invalid. The message omits its value, which may hold a password.
    """
    history = _create_history(settings)
    if settings.images is None:
        return HistoryRecorder(history, settings)
    if history is None:
        raise SettingsError(f"{PREFIX}IMAGES requires a history, but {_NAME} is 'none'.")
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
        f"{_NAME} is invalid; use sqlite:PATH, redis://[:PASSWORD@]HOST[:PORT]/[DB], rediss://... or none."
    )


def _parse_path(text: str) -> Path:
    if not text or text.startswith(("//", ":")) or text.endswith("/"):
        raise SettingsError(f"{_NAME}: sqlite: must be followed by a file path, as in sqlite:state/history.sqlite3.")
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
            f"{_NAME} is not a Redis URL; use redis://[USER:PASSWORD@]HOST[:PORT]/[DB], or rediss:// for TLS. "
            "Percent-encode special characters of the password."
        )
    return url
