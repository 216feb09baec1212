"""The history that settings name."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gateway.errors import SettingsError
from gateway.history import History
from gateway.history.images import Images
from gateway.history.recorder import HistoryRecorder
from gateway.history.sqlite import Sqlite
from gateway.settings import PREFIX, Settings

_NAME: Final = f"{PREFIX}HISTORY"
_WAYS: Final = "sqlite:PATH, redis://[:PASSWORD@]HOST[:PORT]/[DB], rediss://... or none"


def keeping(settings: Settings) -> HistoryRecorder:
    """Return what keeps results as settings say; nothing is opened yet.

    Raises
    ------
    SettingsError
        If they say it in no way that is known. The value is not shown: it may hold a password.
    """
    history = _history(settings)
    if settings.images is None:
        return HistoryRecorder(history, settings)
    if history is None:
        raise SettingsError(f"{PREFIX}IMAGES keeps images with the results that name them, but {_NAME} is none.")
    return HistoryRecorder(history, settings, Images(settings.images))


def _history(settings: Settings) -> History | None:
    kind, colon, rest = settings.history.partition(":")
    if settings.history == "none":
        return None
    if kind == "sqlite" and colon:
        return Sqlite(_path(rest))
    if kind in ("redis", "rediss") and colon:
        from gateway.history.redis import Redis  # 0.2 s, which those without it need not wait for

        return Redis(_checked(settings.history), settings.kept_for)
    raise SettingsError(f"{_NAME} names no history; it is {_WAYS}.")


def _path(text: str) -> Path:
    if not text or text.startswith(("//", ":")) or text.endswith("/"):
        raise SettingsError(f"{_NAME}: sqlite: is followed by the path of a file, as in sqlite:state/history.sqlite3.")
    return Path(text)


def _checked(url: str) -> str:
    """Return a URL as it is; redis-py would pass over what is wrong with it, or take it for an option of its own."""
    try:
        parts = urlsplit(url)
        known = parts.hostname and parts.port != 0
    except ValueError:
        known = False
    database = parts.path.removeprefix("/") if known else ""
    if (
        not known
        or parts.query
        or parts.fragment
        or not (database == "" or (database.isascii() and database.isdigit()))
    ):
        raise SettingsError(
            f"{_NAME} is no URL of Redis; it is redis://[USER:PASSWORD@]HOST[:PORT]/[DB], or rediss:// for TLS, with "
            "what is special in a password written as %XX."
        )
    return url
