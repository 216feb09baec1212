"""A front in a process of its own, before a server that was started apart."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

from radserve.build import model_store
from radserve.errors import ServeError
from radserve.host import run_directory
from radserve.host.ports import require_free
from radserve.host.run_directory import RunDirectory
from radserve.proxy import options as front
from radserve.proxy.nginx import Nginx
from radserve.proxy.options import Options, Upstreams
from radserve.torchserve import launch
from radserve.torchserve.launch import Address

logger = logging.getLogger(__name__)


def behind(
    address: Address,
    health_port: int,
    shared: RunDirectory,
    store: Path,
    config: Path,
    response_timeout: int | None,
    drain_timeout: float,
) -> Upstreams:
    """Describe the server as its own options say.

    Raises
    ------
    ArchiveError, ServeError
        If its configuration or its archives cannot be read.
    """
    try:
        configured = config.read_text(encoding="utf-8")
    except OSError as error:
        raise ServeError(f"--config {config}: {error.strerror}.") from error
    longest = response_timeout or front.response_timeout(
        store / entry.file for entry in model_store.read(store).archives
    )
    return Upstreams(
        torchserve=f"{address.host}:{address.port}",
        torchserve_metrics=f"{address.host}:{address.metrics_port}",
        supervisor=f"{address.host}:{health_port}",
        runtime=shared,
        max_body=launch.max_request_size(configured),
        response_timeout=longest,
        drain_timeout=drain_timeout,
    )


async def run(options: Options, before: Upstreams, shared: RunDirectory) -> int:
    """Run nginx until SIGTERM or SIGINT, which lets it finish what it has; return its exit code.

    Raises
    ------
    ServeError
        If it was not started.
    """
    options.require_safe()
    require_free(options.listens)
    run_directory.require_private(shared)
    nginx = Nginx(options, before, shared.front)
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await nginx.start()
        reload = asyncio.Event()
        loop.add_signal_handler(signal.SIGHUP, reload.set)
        ended = asyncio.create_task(nginx.wait())
        stopped = asyncio.create_task(stop.wait())
        reloads = asyncio.create_task(_reload(nginx, reload))
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        reloads.cancel()
        if not ended.done() and not await nginx.quit(before.drain_timeout):
            logger.error("still busy after %g s; stopping anyway", before.drain_timeout)
            await nginx.end()
        return await ended
    finally:
        await nginx.end()


async def _reload(nginx: Nginx, asked: asyncio.Event) -> None:
    while True:
        await asked.wait()
        asked.clear()
        await nginx.reload()
