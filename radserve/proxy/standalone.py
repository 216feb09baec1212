"""Proxy as its own process, for a server that was started separately."""

import asyncio
import logging
import os
from pathlib import Path
from typing import Final

from radserve.build import model_store
from radserve.errors import ServeError
from radserve.host.background import BackgroundTasks
from radserve.host.ports import require_free
from radserve.host.run_directory import RunDirectory, require_private, server_died
from radserve.host.stop_signals import stop_event
from radserve.proxy import configuration
from radserve.proxy.configuration import Upstreams
from radserve.proxy.nginx import Nginx
from radserve.proxy.options import ProxyOptions
from radserve.torchserve import capacity, launch

logger = logging.getLogger(__name__)

_PERIOD: Final = 0.1  # seconds between two looks at the server's lock


def upstreams(
    health_port: int,
    run_directory: RunDirectory,
    store: Path,
    config: Path,
    response_timeout: int | None,
    drain_timeout: float,
    *,
    memory: int,
    requests: int,
) -> Upstreams:
    """Describe the server by its own options, its configuration and its archives."""
    try:
        configured = config.read_text(encoding="utf-8")
    except OSError as error:
        raise ServeError(f"--config {config}: {error.strerror}.") from error
    archives = (store / entry.file for entry in model_store.read(store).archives)
    max_body = launch.max_size(configured, "request")
    return Upstreams(
        health_port,
        run_directory,
        max_body=max_body,
        response_timeout=response_timeout or configuration.response_timeout(archives),
        capacity=capacity.plan(memory, max_body, requests),
        drain_timeout=drain_timeout,
    )


async def run(options: ProxyOptions, server: Upstreams) -> int:
    """Run nginx until SIGTERM or SIGINT, finish requests in flight, and return nginx's exit code.

    nginx is independent of the server: it answers 503 while that is dead, and continues when it is ready again.
    """
    options.require_safe()
    require_free(options.listens)
    require_private(server.run_directory)
    if os.geteuid() == 0:
        logger.warning("nginx runs as root, because this program does; use an unprivileged user")
    nginx = Nginx(options, server)
    stop = stop_event()
    tasks = BackgroundTasks()
    tasks.start("watch of the server", lambda: _close_without_server(server.run_directory))
    try:
        nginx.reload_at_sighup()
        await nginx.start()
        exited = asyncio.create_task(nginx.keep_running())
        await asyncio.wait({exited, asyncio.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
        if not exited.done() and not await nginx.drain(server.drain_timeout):
            logger.error("requests still in flight after %g s; stopping anyway", server.drain_timeout)
            await nginx.stop()
        return await exited
    finally:
        await tasks.stop()
        await nginx.stop()


async def _close_without_server(run_directory: RunDirectory) -> None:
    """Answer 503 while the server is dead: one that was killed could not remove its `ready` flag."""
    while True:
        if run_directory.ready.exists() and server_died(run_directory):
            logger.error("the server died; answering 503 until it is ready again")
            run_directory.ready.unlink(missing_ok=True)
        await asyncio.sleep(_PERIOD)
