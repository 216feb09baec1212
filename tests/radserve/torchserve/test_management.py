"""Tests of radserve.torchserve.management."""

import asyncio

import httpx
import pytest

from radserve.host.run_directory import RunDirectory
from radserve.torchserve import management


def test_a_response_that_comes_in_pieces_does_not_prolong_a_change(
    run_directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(management, "SCALE_TIMEOUT", 0.3)

    async def scale() -> None:
        ended = asyncio.Event()

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not writer.is_closing():
                writer.write(b" ")
                await asyncio.sleep(0.05)
            ended.set()

        server = await asyncio.start_unix_server(answer, run_directory.management)
        client = management.Management(run_directory)
        with pytest.raises(httpx.ReadTimeout):
            await asyncio.wait_for(client.scale("brightness", "1.0.0", 1), 2)
        await client.close()
        await ended.wait()
        server.close()

    asyncio.run(scale())
