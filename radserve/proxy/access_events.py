"""What came of requests whose model has its traffic split: nginx tells it, a datagram a request.

nginx leaves a datagram out where nobody reads it in time (the kernel keeps ten), and never waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

logger = logging.getLogger(__name__)

_LINE: Final = re.compile(
    # <190>Jan  2 03:04:05 radserve: NAME VERSION PINNED STATUS SECONDS (log_format traffic)
    rb"<\d{1,3}>\w{3} [ \d]\d \d\d:\d\d:\d\d radserve: "
    rb"(?P<model>[a-z0-9-]{1,64}) (?P<version>[0-9.]{3,64}) (?P<pinned>[01]) (?P<status>[1-5]\d\d) "
    rb"(?P<seconds>\d{1,9}\.\d{3}|-)\n?"
)
_LONGEST: Final = 1024
_AT_ONCE: Final = 256
"""Datagrams that are read before others have their turn."""
_GONE: Final = 499
"""nginx' status for a client that left."""


@dataclass(frozen=True)
class Seen:
    """One request that TorchServe was asked.

    Attributes
    ----------
    version
        The version that was asked.
    pinned
        That the client named it.
    status
        Of the answer; 499 where the client left before it.
    seconds
        From asking TorchServe to its last byte; None where it was never reached.
    """

    model: str
    version: str
    pinned: bool
    status: int
    seconds: float | None


def parse(line: bytes) -> Seen | None:
    """Read what nginx said; None for what is no such line."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    seconds = None if match["seconds"] == b"-" else float(match["seconds"])
    return Seen(
        match["model"].decode(), match["version"].decode(), match["pinned"] == b"1", int(match["status"]), seconds
    )


class AccessEvents:
    """Listens while it is entered, and hands each request to an observer.

    Attributes
    ----------
    garbage
        How many datagrams were none of nginx' lines.
    """

    def __init__(self, path: Path, observer: Callable[[Seen], None]) -> None:
        self._path = path
        self._observer = observer
        self._socket: socket.socket | None = None
        self.garbage = 0

    async def __aenter__(self) -> Self:
        self._path.unlink(missing_ok=True)
        self._socket = opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            opened.bind(str(self._path))
            self._path.chmod(0o600)
        except OSError:
            opened.close()
            raise
        asyncio.get_running_loop().add_reader(opened, self._read, opened)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
        self._path.unlink(missing_ok=True)

    def _read(self, opened: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(_AT_ONCE):
                self._hear(opened.recv(_LONGEST))

    def _hear(self, line: bytes) -> None:
        seen = parse(line)
        if seen is not None:
            self._observer(seen)
            return
        self.garbage += 1
        if self.garbage == 1:
            logger.warning("%s: somebody says what is no line of nginx; it is counted and left out", self._path)


class TrafficWindow:
    """What came of the requests of each version since it was last emptied.

    Parameters
    ----------
    pinned
        Whether requests that named their version count: not where a share is judged, since who names a version may
        send it other images than everybody does.
    """

    _MOST: Final = 1000
    """Versions that are told apart: who names versions may name any."""

    def __init__(self, *, pinned: bool = False) -> None:
        self._pinned = pinned
        self._tallies: dict[tuple[str, str], Tally] = {}

    def add(self, seen: Seen) -> None:
        """Count a request."""
        key = seen.model, seen.version
        if (seen.pinned and not self._pinned) or (key not in self._tallies and len(self._tallies) >= self._MOST):
            return
        self._tallies.setdefault(key, Tally()).add(seen)

    def tally(self, model: str, version: str) -> Tally:
        """Return what is counted of a version: nothing, if nobody has asked it."""
        return self._tallies.get((model, version)) or Tally()

    def empty(self, model: str | None = None) -> None:
        """Begin anew: for one model, or for all."""
        self._tallies = {} if model is None else {key: it for key, it in self._tallies.items() if key[0] != model}


class Tally:
    """Counts of one version.

    Attributes
    ----------
    requests
        All, also those of clients that left.
    errors
        Answered with 5xx, or not at all in time.
    refusals
        Answered with 4xx: the client's fault.
    """

    _STEP: Final = 1.02
    """Each bin of latencies ends so much later than the one before."""

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.refusals = 0
        self._bins: Counter[int] = Counter()

    def add(self, seen: Seen) -> None:
        """Count a request; how long it took counts where it was answered as asked: refusing is quick."""
        self.requests += 1
        self.errors += seen.status >= 500
        self.refusals += 400 <= seen.status < _GONE
        if seen.status < 400 and seen.seconds is not None:
            self._bins[round(math.log(max(seen.seconds, 0.0005), self._STEP))] += 1

    def quantile(self, q: float) -> float | None:
        """Return the seconds within which that part of the answers came, to 1 %; None without an answer."""
        wanted = q * self._bins.total()
        passed = 0
        for number in sorted(self._bins):
            passed += self._bins[number]
            if passed >= wanted:
                return float(self._STEP**number)
        return None

    @property
    def p50(self) -> float | None:
        """Median latency, in seconds."""
        return self.quantile(0.5)

    @property
    def p95(self) -> float | None:
        """95th percentile of the latencies, in seconds."""
        return self.quantile(0.95)
