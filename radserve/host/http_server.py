"""Protocol and options for uvicorn, with which clients that hold connections cannot stop a server."""

import asyncio
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS: Final = 400
"""Open connections of a server. With those that asyncio accepts at once, and 256 to the model server, they remain
within the usual limit of 1024 open files."""
HEADER_SECONDS: Final = 10.0
"""Time for the header of a request, as in nginx."""
SEND_SECONDS: Final = 30.0
"""Time in which a client must read some of a response, as in nginx."""
_INTERVAL: Final = 2.5


class BoundedProtocol(H11Protocol):
    """Closes connections that send no complete header within HEADER_SECONDS, or read nothing within SEND_SECONDS.

    Beyond MAX_CONNECTIONS, the connection that has waited longest for a request is closed, so that unfinished requests
    displace each other and a client that sends its request at once is served. If every connection has a request in
    progress, the new one is closed.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room for the connection, and watch it."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self._unsent = 0
        self._timer = self.loop.call_later(_INTERVAL, self._check)
        if len(self.connections) > MAX_CONNECTIONS:
            waiting = [other for other in self.connections if isinstance(other, BoundedProtocol) and other.is_waiting]
            oldest = min((other for other in waiting if other is not self), key=_since, default=self)
            oldest.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching the connection."""
        self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._since = self.loop.time()
        super().on_response_complete()

    @property
    def is_waiting(self) -> bool:
        """Whether the header of a request is incomplete, and the previous response is sent."""
        return self.conn.our_state is not h11.SEND_RESPONSE and not self.transport.get_write_buffer_size()

    def abort(self) -> None:
        """Close the connection without sending what is buffered, and free its place at once."""
        self.connections.discard(self)
        self.transport.abort()

    def _check(self) -> None:
        now, unsent = self.loop.time(), self.transport.get_write_buffer_size()
        if unsent != self._unsent:
            self._since, self._unsent = now, unsent
        if (unsent or self.is_waiting) and now - self._since >= (SEND_SECONDS if unsent else HEADER_SECONDS):
            self.abort()
        else:
            self._timer = self.loop.call_later(_INTERVAL, self._check)


class Server(uvicorn.Server):
    """Leaves signals to its process."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Capture no signals."""
        return nullcontext()


def _since(connection: BoundedProtocol) -> float:
    return connection._since  # noqa: SLF001 - of the same module


OPTIONS: Final[dict[str, Any]] = {
    "http": BoundedProtocol,
    "ws": "none",  # another protocol would take over the connection
    "backlog": 100,  # which asyncio accepts at once, before it serves others
    "log_config": None,
    "access_log": False,
}
"""Options of `uvicorn.Config`."""
