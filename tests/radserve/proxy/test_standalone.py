"""Tests of radserve.proxy.standalone, with a real nginx."""

import asyncio
import os
import signal
from pathlib import Path

import httpx
import pytest

from radserve.errors import ServeError
from radserve.host.run_directory import RunDirectory
from radserve.proxy import standalone
from radserve.proxy.configuration import Upstreams
from radserve.proxy.options import ProxyOptions
from radserve.torchserve.capacity import plan
from tests.conftest import ROOT
from tests.radserve.minimal_archive import write_archive
from tests.radserve.proxy.running import status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_standalone_proxy_stops_at_a_signal(
    options: ProxyOptions, upstreams: Upstreams, number: signal.Signals
) -> None:
    async def main() -> int:
        proxy = asyncio.create_task(standalone.run(options, upstreams))
        async with asyncio.timeout(20):
            while True:
                await asyncio.sleep(0.05)
                try:
                    assert await status(options.url) == 502
                except httpx.TransportError:  # nginx is starting
                    continue
                break
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.2)
        os.kill(os.getpid(), number)
        return await proxy

    assert asyncio.run(main()) == 0


def test_the_upstreams_of_a_standalone_proxy_match_the_server(run_directory: RunDirectory, tmp_path: Path) -> None:
    store = tmp_path / "store"
    write_archive(store)
    config = ROOT / "config.properties"

    def described(config: Path, response_timeout: int | None) -> Upstreams:
        return standalone.upstreams(
            8090, run_directory, store, config, response_timeout, 30.0, memory=8 << 30, requests=128
        )

    capacity = plan(8 << 30, 44805461, 128)
    assert described(config, None) == Upstreams(8090, run_directory, 44805461, 60, capacity, 30.0)
    assert described(config, 7).response_timeout == 7
    with pytest.raises(ServeError, match=r"--config .*: No such file"):
        described(tmp_path / "missing", None)
