"""HTTP clients of TorchServe's APIs, which listen on unix sockets in the run directory."""

from pathlib import Path

import httpx


def connect(socket: Path, timeout: float) -> httpx.AsyncClient:
    """Return a client of the API that listens on a unix socket."""
    # Without TLS, it needs no certificate authorities: loading them takes 50 ms. An idle connection would look like a
    # request in progress (`ModelRegistry.idle`).
    limits = httpx.Limits(max_keepalive_connections=0)
    transport = httpx.AsyncHTTPTransport(uds=str(socket), verify=False, limits=limits)
    return httpx.AsyncClient(transport=transport, base_url="http://torchserve", timeout=timeout, trust_env=False)
