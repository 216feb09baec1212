"""Access events: nginx reports each request to a model with split traffic in one datagram.

nginx never waits for the reader: it drops a datagram when the socket's queue (ten datagrams) is full.
"""

import asyncio
import contextlib
import logging
import math
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self
from urllib.parse import unquote

logger = logging.getLogger(__name__)

_LINE: Final = re.compile(
    # <190>Jan  2 03:04:05 radserve: NAME VERSION PINNED STATUS SECONDS OUTCOME (log_format traffic)
    rb"<\d{1,3}>\w{3} [ \d]\d \d\d:\d\d:\d\d radserve: "
    rb"(?P<model>[a-z0-9-]{1,64}) (?P<version>[0-9.]{3,64}) (?P<pinned>[01]) (?P<status>[1-5]\d\d) "
    rb"(?P<seconds>\d{1,9}\.\d{3}|-) "
    rb"(?P<outcome>[A-Za-z0-9%._~:,-]{1,600})\n?"
)
_OUTCOME: Final = re.compile(r"(label|domain):([^:]+):([1-9]\d{0,5})")
_MAX_DATAGRAM: Final = 1024
_MAX_BATCH: Final = 256  # datagrams that are read before other tasks run
_MAX_VERSIONS: Final = 1000  # bound on memory: clients may request arbitrary version numbers
_MAX_NAMES: Final = 100  # of each kind of outcomes: bound on memory if a faulty version invents labels
_OTHER_NAMES: Final = "(other)"  # outcomes beyond the bound
_STEP: Final = 1.02  # ratio of the upper bounds of two successive latency bins
CODES: Final = ("2xx", "3xx", "4xx", "499", "5xx")  # classes of status; the client disconnected at 499
_CLIENT_CLOSED: Final = 499  # status that nginx logs when the client disconnected
_MIN_FAILURES: Final = 5  # in a row, before they mean more than single requests
_MIN_FAILURE_SECONDS: Final = 5.0  # of them: a full queue rejects many requests between two successes
_MAX_FAILURE_AGE: Final = 60.0  # seconds since the last of them


@dataclass(frozen=True)
class AccessEvent:
    """One request that was forwarded to TorchServe."""

    model: str
    version: str
    pinned: bool  # the client chose the version by its path
    status: int  # 499 if the client disconnected before the response
    seconds: float | None  # until the last byte of TorchServe's response; None if TorchServe was not reached
    outcomes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Images by label, and by domain status; empty unless the request was assigned at random."""


def parse(line: bytes) -> AccessEvent | None:
    """Parse a datagram; return None if it is malformed."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    seconds = None if match["seconds"] == b"-" else float(match["seconds"])
    model, version = match["model"].decode(), match["version"].decode()
    outcomes = _parse_outcomes(match["outcome"].decode())
    return AccessEvent(model, version, match["pinned"] == b"1", int(match["status"]), seconds, outcomes)


def _parse_outcomes(text: str) -> dict[str, dict[str, int]]:
    """Parse the header X-Outcome of a response (handlers/distribution.py), or `-` without one.

    A malformed header has no outcomes, so that the handler of a faulty version cannot hide its errors.
    """
    outcomes: dict[str, dict[str, int]] = {}
    for part in text.split(","):
        match = _OUTCOME.fullmatch(part)
        if match is None:
            return {}
        outcomes.setdefault(match[1], {})[unquote(match[2])] = int(match[3])
    return outcomes


class AccessEvents:
    """Async context manager that receives datagrams, passes each event to an observer and counts malformed ones."""

    def __init__(self, path: Path, observer: Callable[[AccessEvent], None]) -> None:
        self._path = path
        self._observer = observer
        self._socket: socket.socket | None = None
        self.malformed = 0

    async def __aenter__(self) -> Self:
        self._path.unlink(missing_ok=True)
        self._socket = listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            listener.bind(str(self._path))
            self._path.chmod(0o600)
        except OSError:
            listener.close()
            raise
        asyncio.get_running_loop().add_reader(listener, self._read, listener)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
        self._path.unlink(missing_ok=True)

    def _read(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(_MAX_BATCH):
                self._handle(listener.recv(_MAX_DATAGRAM))

    def _handle(self, line: bytes) -> None:
        event = parse(line)
        if event is not None:
            self._observer(event)
            return
        self.malformed += 1
        if self.malformed == 1:
            logger.warning("%s: malformed access-log datagram ignored", self._path)


@dataclass
class Tally:
    """Requests to one version, by class of status, and their latency and outcomes.

    A request counts once in each kind of outcomes, however many images it has: those of one request are alike.
    """

    codes: Counter[str] = field(default_factory=Counter, init=False)  # keys: CODES
    outcomes: dict[str, dict[str, float]] = field(default_factory=dict, init=False)
    _bins: Counter[int] = field(default_factory=Counter, init=False)
    _failures: int = field(default=0, init=False)  # since the last success
    _failing: tuple[float, float] = field(default=(0.0, 0.0), init=False)  # times of the first and last of them

    def add(self, event: AccessEvent, now: float) -> None:
        """Count a request; only the latency of successful ones counts, because rejections are fast."""
        if event.status >= 500:
            if now - self._failing[1] > _MAX_FAILURE_AGE:
                self._failures = 0  # not the same incident
            self._failing = (self._failing[0] if self._failures else now, now)
            self._failures += 1
        elif event.status < 400:
            self._failures = 0
        self.codes["499" if event.status == _CLIENT_CLOSED else f"{event.status // 100}xx"] += 1
        for kind, counts in event.outcomes.items():
            sums, images = self.outcomes.setdefault(kind, {}), sum(counts.values())
            for name, count in counts.items():
                key = name if name in sums or len(sums) < _MAX_NAMES - 1 else _OTHER_NAMES
                sums[key] = sums.get(key, 0.0) + count / images
        if event.status < 400 and event.seconds is not None:
            self._bins[round(math.log(max(event.seconds, 0.0005), _STEP))] += 1

    @property
    def requests(self) -> int:
        """All requests, including those whose client disconnected."""
        return self.codes.total()

    @property
    def errors(self) -> int:
        """Responses with 5xx."""
        return self.codes["5xx"]

    @property
    def rejections(self) -> int:
        """Responses with 4xx, without requests whose client disconnected."""
        return self.codes["4xx"]

    def failures_in_a_row(self, now: float) -> int:
        """Return the number of 5xx since the last success, or 0 if they are few, a burst, or old; 4xx do not count."""
        first, last = self._failing
        lasting = last - first >= _MIN_FAILURE_SECONDS and now - last <= _MAX_FAILURE_AGE
        return self._failures if lasting and self._failures >= _MIN_FAILURES else 0

    def quantile(self, q: float) -> float | None:
        """Return a quantile of the latency in seconds, accurate to 1 %; None without successful requests."""
        rank = q * self._bins.total()
        count = 0
        for number in sorted(self._bins):
            count += self._bins[number]
            if count >= rank:
                return float(_STEP**number)
        return None

    @property
    def p95(self) -> float | None:
        """95th percentile of the latency, in seconds."""
        return self.quantile(0.95)


_Tallies = dict[tuple[str, str], Tally]


class TrafficWindow:
    """Statistics of the requests to each version: all since the start, and those since the last `clear`.

    Requests that chose their version by path are left out of the latter, because their images may differ from those of
    other clients.
    """

    def __init__(self) -> None:
        self._tallies: _Tallies = {}
        self._totals: _Tallies = {}

    def add(self, event: AccessEvent, now: float | None = None) -> None:
        """Count a request; `now` is the time of `time.monotonic`."""
        now = time.monotonic() if now is None else now
        key = event.model, event.version
        counted = [(self._totals, replace(event, outcomes={}))]  # only a rollout reads outcomes
        if not event.pinned:
            counted.append((self._tallies, event))
        for tallies, each in counted:
            # TorchServe answers 404 for versions that it does not hold.
            if key in tallies or (event.status != 404 and len(tallies) < _MAX_VERSIONS):
                tallies.setdefault(key, Tally()).add(each, now)

    def tally(self, model: str, version: str) -> Tally:
        """Return the statistics of one version since the last `clear`, without requests that chose it by path."""
        return self._tallies.get((model, version)) or Tally()

    def total(self, model: str, version: str) -> Tally:
        """Return the statistics of one version since the start."""
        return self._totals.get((model, version)) or Tally()

    def failures_in_a_row(self, model: str, version: str) -> int:
        """Return the number of responses with 5xx since the last success of a version; see `Tally`.

        Requests that chose their version by path count, because the same workers answer them: a success shows that the
        version works, and a version on standby receives no others.
        """
        return self.total(model, version).failures_in_a_row(time.monotonic())

    def clear(self, model: str) -> None:
        """Reset the statistics of one model."""
        self._tallies = {key: tally for key, tally in self._tallies.items() if key[0] != model}
