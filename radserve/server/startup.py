"""Start of the server: launch the engine and wait until every model answers its sample."""

import asyncio
import logging
import time
from typing import Final

import httpx

from handlers import profile
from radserve.host import process
from radserve.rayserve import launch as ray_launch
from radserve.server.components import Components
from radserve.server.status import State
from radserve.torchserve import launch

logger = logging.getLogger(__name__)

_REMEDY: Final = "If the machine is slow or busy, set a longer --startup-timeout, or serve fewer models with --models."


async def start_engine(server: Components) -> asyncio.subprocess.Process:
    """Write the engine's configuration and start its process."""
    options, run_directory = server.options, server.run_directory
    entries = [model.entry for model in server.models]
    configured = launch.configuration(
        server.torchserve_configuration, run_directory, entries, server.plan, server.capacity.requests
    )
    run_directory.configuration.write_text(configured, encoding="utf-8")
    environment = launch.environment(
        run_directory, options.store, configured, server.plan, options.require, options.domain
    )
    profile.write(run_directory.profiles, options.profiles)
    if options.engine == "ray":
        command = ray_launch.command(run_directory, list(server.registry), server.capacity)
        environment = {**environment, **ray_launch.environment()}
    else:
        command = launch.command(run_directory, server.capacity.heap, server.python)
    return await process.start(command, environment, run_directory.folder)


async def wait_until_ready(server: Components) -> bool:
    """Wait until TorchServe and the server are ready; return False after the startup timeout.

    A server whose models all answer is opened then even if workers are missing.
    """
    seconds = server.options.startup_timeout
    deadline = time.monotonic() + seconds
    while True:
        late = time.monotonic() >= deadline
        problem = await _try_to_open(server, tolerant=late)
        if problem is None:
            return True
        server.status.detail = problem
        if late:
            logger.error("not ready after %g s: %s %s", seconds, problem, _REMEDY)
            return False
        await asyncio.sleep(0.1)


async def _try_to_open(server: Components, *, tolerant: bool) -> str | None:
    """Bring TorchServe to the declared state and open the server; return why that is not possible yet, or None."""
    try:
        await server.registry.align()
        shortage = await server.readiness.problem(infer=False)
        if shortage is not None and (shortage.fatal or not tolerant):
            return shortage.detail
        problem = await server.readiness.problem(infer=True)
        if problem is not None and problem.fatal:
            return problem.detail
        await server.versions.start()
    except (httpx.HTTPError, OSError) as error:
        return f"{server.options.engine_name} does not respond yet ({type(error).__name__})."
    server.rollouts.resume()
    if problem is None:
        server.status.update(State.READY, "Every worker is ready and every model answered its sample.")
    else:
        logger.warning("degraded: %s", problem.detail)
        server.status.update(State.DEGRADED, problem.detail)
    server.run_directory.ready.touch(mode=0o600)
    return None
