"""Compressed JSON, as stores keep prediction documents."""

import json
import zlib
from collections.abc import Mapping
from typing import Any, cast

from gateway.errors import HistoryError


def pack(document: Mapping[str, Any]) -> bytes:
    """Return a document as compressed JSON."""
    return zlib.compress(json.dumps(document, allow_nan=False, separators=(",", ":")).encode())


def unpack(content: bytes) -> dict[str, Any]:
    """Return the document that `pack` encoded; raises HistoryError for other content."""
    try:
        return cast("dict[str, Any]", json.loads(zlib.decompress(content)))
    except (ValueError, zlib.error) as error:
        raise HistoryError("The history holds a damaged prediction document.") from error
