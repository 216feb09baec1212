"""Unique identifiers of results: the same image and archive always get the same ones."""

import hashlib
import json
import uuid

from pydicom.uid import UID


def derived(*parts: object) -> UID:
    """Return a UID derived from an UUID (PS3.5 B.2) that the SHA-256 of the parts determines."""
    digest = hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).digest()
    return UID(f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}")
