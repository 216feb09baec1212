"""Results for tests."""

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from gateway.history import Details, History, Page, Query, Result

DETAILS = Details({"label": "normal", "mask": {"width": 2}}, b"\x89PNG \x00\xff")
NOW = datetime.now(UTC).replace(microsecond=250_000)


def identity(time: datetime) -> str:
    """Return the id of a result at a time."""
    bits = secrets.randbits(80) & ~(0xF << 76) & ~(0x3 << 62) | 7 << 76 | 2 << 62
    return str(UUID(int=int(time.timestamp() * 1000) << 80 | bits))


def result(seconds: float = 0, **changes: Any) -> Result:
    """Return a result that is some seconds old, changed."""
    time = NOW - timedelta(seconds=seconds)
    right: dict[str, Any] = {
        "id": identity(time),
        "time": time,
        "verb": "predictions",
        "model": "chest",
        "version": "1.0.0",
        "sha256": "a" * 64,
        "image_sha256": hashlib.sha256(str(seconds).encode()).hexdigest(),
        "label": "normal",
        "probability": 0.75,
        "positive": False,
        "client": "ward-7",
        "filename": None,
        "request_id": "r",
    }
    return Result(**right | changes)


async def pages(history: History, query: Query) -> list[Page]:
    """Return all pages of a query."""
    results = [await history.find(query)]
    while results[-1].next is not None:
        results.append(await history.find(Query(**vars(query) | {"cursor": results[-1].next})))
    return results


async def all_of(history: History, query: Query) -> list[Result]:
    """Return all results of a query."""
    return [item for page in await pages(history, query) for item in page.results]
