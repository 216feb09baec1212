"""HTTP clients of TorchServe's APIs, which listen on unix sockets in the run directory."""

from pathlib import Path

import httpx


def connect(socket: Path, timeout: float) -> httpx.AsyncClient:
    """Return a client of the API that listens on a unix socket."""
    transport = httpx.AsyncHTTPTransport(uds=str(socket))
    return httpx.AsyncClient(transport=transport, base_url="http://torchserve", timeout=timeout)
