"""Tests of radserve.server.asgi."""

import asyncio
import socket
import stat
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from radserve.errors import ServeError
from radserve.host import unix_socket
from radserve.server.asgi import listen_on_port, serving

APP = Starlette()


def test_a_socket_is_private_and_removed_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"

    async def steps() -> None:
        async with serving(APP, unix_socket.listen(path)):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            transport = httpx.AsyncHTTPTransport(uds=str(path))
            async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
                assert (await client.get("/")).status_code == 404

    asyncio.run(steps())
    assert not path.exists()


def test_a_port_in_use_is_an_error() -> None:
    async def steps(port: int) -> None:
        async with serving(APP, listen_on_port("127.0.0.1", port, "--health-port")):
            pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ServeError, match=rf"Cannot listen on 127\.0\.0\.1:{port} \(--health-port\)\."):
            asyncio.run(steps(port))
