"""Requests that fit into memory: Java's heap, TorchServe's queue and nginx's limits are derived from each other."""

from dataclasses import dataclass
from typing import Final

SMALL: Final = 999_999
"""Bytes of the longest body that counts as small; nginx.conf.template counts the digits of Content-Length."""
_MIN_HEAP: Final = 256 << 20
_MAX_HEAP: Final = 2 << 30


@dataclass(frozen=True)
class Capacity:
    """Limits of one server.

    Attributes
    ----------
    heap
        Bytes of Java's heap, where a body is while it is queued.
    requests
        Open requests of all clients, and the length of each queue.
    large
        How many of these may have a body that is not small.
    """

    heap: int
    requests: int
    large: int

    @property
    def per_key(self) -> int:
        """Open requests of one key: half of the queue remains for all others."""
        return max(1, self.requests // 2)

    @property
    def per_address(self) -> int:
        """Open requests of one address, whatever keys it sends."""
        return max(1, self.requests * 3 // 4)


def direct_memory(heap: int) -> int:
    """Return the size of Java's direct memory, in bytes, where bodies are while they are transferred.

    TorchServe copies the bodies of a batch one by one into a buffer that grows. When the last one is added, the old and
    the new buffer together hold almost twice the bodies of the batch, which fill 60% of the heap at most.
    """
    return heap * 5 // 4


def plan(memory: int, max_body: int, requests: int) -> Capacity:
    """Derive the limits from the memory of the container and the longest body, in bytes; `requests` is their maximum.

    Java gets an eighth of the memory as heap, and the bodies get 60% of the heap, of which the rest is for TorchServe
    itself and for the gaps between long arrays. Workers, the fork server (0.1 GB), the supervisor and nginx have the
    other seven eighths.
    """
    heap = min(max(memory // 8, _MIN_HEAP), _MAX_HEAP)
    room = heap * 6 // 10
    requests = max(2, min(requests, room // 2 // SMALL))
    return Capacity(heap, requests, max(1, (room - requests * SMALL) // max_body))
