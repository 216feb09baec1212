"""Fixtures with the components of a server and a fake TorchServe."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from radserve.host.resources import WorkerPlan
from radserve.proxy.options import ProxyOptions
from radserve.server.components import Components
from radserve.server.options import ServerOptions
from radserve.torchserve.verified_models import select
from radserve.versions.stored_state import StateFolder
from tests.radserve.fake_torchserve import Running, running
from tests.radserve.folders import prepared, two_versions
from tests.server import ROOT, free_ports

NAME = "brightness"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return two_versions(tmp_path / "store")


@pytest.fixture
def options(tmp_path: Path, store: Path) -> ServerOptions:
    """Options of a server for this machine, on free ports."""
    port, scrape_port, health_port = free_ports(3)
    proxy = ProxyOptions(
        "127.0.0.1", port, "127.0.0.1", 0, 0, access_log=Path(os.devnull), keyless=True, scrape_port=scrape_port
    )
    return ServerOptions(
        store=store,
        configuration=ROOT / "config.properties",
        health_port=health_port,
        proxy=proxy,
        models=[f"{NAME}/1.0.0"],
        workers=1,
        worker_start="fresh",
        startup_timeout=10.0,
        drain_timeout=5.0,
        run_directory=tmp_path / "run",
        settle=0.1,
    )


@dataclass(frozen=True)
class TestServer:
    """Components of a server, and the fake TorchServe that they talk to."""

    __test__ = False

    components: Components
    torchserve: Running

    def run(self, steps: Callable[[Components], Awaitable[Any]]) -> Any:
        """Run a coroutine function with the components, then close them."""

        async def main() -> Any:
            try:
                return await steps(self.components)
            finally:
                await self.components.rollouts.stop()
                await self.components.versions.stop()
                await self.components.management.close()
                await self.components.readiness.close()

        return asyncio.run(main())


@pytest.fixture
def server(options: ServerOptions, tmp_path: Path) -> Iterator[TestServer]:
    """A composed server whose TorchServe, with version 1.0.0 and one worker, runs in a thread of the test."""
    run_directory = prepared(tmp_path / "run")
    with running(options.store, run_directory.management, f"{NAME}-1.0.0.mar") as torchserve:
        options = replace(options, proxy=None)
        state = StateFolder(options.state_folder)
        models = select(options.store, options.models)
        yield TestServer(Components(options, models, WorkerPlan(1, 1), run_directory, None, state), torchserve)


def with_workers(server: TestServer, count: int) -> None:
    """Declare a number of workers for each version."""
    registry = server.components.registry
    registry._versions = {pair: replace(item, workers=count) for pair, item in registry._versions.items()}
    for model in server.torchserve.models.values():
        model.workers = count
