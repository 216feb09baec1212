"""Supervisor: runs TorchServe and the proxy from the start to the exit code.

`startup` makes the server ready, `monitor` watches it, and `shutdown` handles SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Sequence

from radserve.auth.key_check import Keyring
from radserve.host import process, run_directory
from radserve.host.resources import cores, plan
from radserve.proxy.nginx import Nginx
from radserve.server.banner import banner
from radserve.server.composition import Components, compose
from radserve.server.monitor import monitor
from radserve.server.options import ServerOptions
from radserve.server.shutdown import shut_down
from radserve.server.startup import start_torchserve, wait_until_ready
from radserve.server.status import Exit
from radserve.torchserve.verified_models import select
from radserve.versions.storage import StateFolder

logger = logging.getLogger(__name__)


async def serve(options: ServerOptions, announce: Callable[[str], None]) -> Exit:
    """Serve until SIGTERM or SIGINT.

    Parameters
    ----------
    announce
        Called once, when the server is ready, with the text to print.

    Raises
    ------
    ArchiveError, KeysError, ServeError
        If the server was not started.
    """
    options.require_safe()
    keyring = Keyring.open(options.keys) if options.keys else None
    state = StateFolder(options.state_folder)
    models = select(options.store, _declared(state, options.models))
    for model in models:
        if model.recipe.warning is not None:
            logger.warning("%s %s: %s", model.entry.name, model.entry.version, model.recipe.warning)
    options.require_ports()
    worker_plan = plan(len({model.entry.name for model in models}), cores(), options.workers)
    with run_directory.opened(options.run_directory) as directory:
        directory.prepare()
        return await run(compose(options, models, worker_plan, directory, keyring, state), announce)


def _declared(state: StateFolder, models: Sequence[str]) -> Sequence[str]:
    """Return the models to serve: those of the saved deployment, if any, else those of the options."""
    deployment = state.state.deployment
    if deployment is None:
        return models
    declared = [f"{name}/{version}" for name, model in deployment.models.items() for version in model.versions]
    ignored = {name.partition("/")[0] for name in models} - set(deployment.models)
    if ignored:
        logger.warning(
            "--models names %s, but the deployment saved in %s takes precedence: %s",
            ", ".join(sorted(ignored)),
            state.path,
            ", ".join(declared),
        )
    return declared


async def run(server: Components, announce: Callable[[str], None]) -> Exit:
    """Start the components, supervise them and stop them; see `serve`."""
    stop = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        _handle_signals(stop, server.proxy)
        await stack.enter_async_context(server.health)
        await stack.enter_async_context(server.traffic)
        await stack.enter_async_context(server.control)
        if server.keyring is not None:
            stack.callback(asyncio.create_task(server.keyring.watch()).cancel)
        stack.push_async_callback(server.management.close)
        stack.push_async_callback(server.readiness.close)
        if server.proxy is not None:
            # nginx starts first: until TorchServe is ready it answers 503, and /ready says why.
            stack.push_async_callback(server.proxy.stop)
            await server.proxy.start()
        torchserve = await start_torchserve(server)
        stack.push_async_callback(process.stop, torchserve)
        stack.push_async_callback(server.versions.stop)
        stack.push_async_callback(server.rollouts.stop)
        return await _supervise(server, torchserve, stop, announce)


def _handle_signals(stop: asyncio.Event, proxy: Nginx | None) -> None:
    """Stop at SIGTERM and SIGINT; reload the proxy's certificate at SIGHUP."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if proxy is None:
        return
    reloads: set[asyncio.Task[None]] = set()  # the event loop holds only weak references to tasks

    def reload() -> None:
        task = loop.create_task(proxy.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)


async def _supervise(
    server: Components, torchserve: asyncio.subprocess.Process, stop: asyncio.Event, announce: Callable[[str], None]
) -> Exit:
    """Wait for readiness, then for a signal or the end of a process."""
    torchserve_exit = asyncio.create_task(torchserve.wait())
    proxy_exit = asyncio.create_task(server.proxy.wait() if server.proxy else _never())
    events = {torchserve_exit, proxy_exit, asyncio.create_task(_set(stop))}
    ready = asyncio.create_task(wait_until_ready(server, torchserve.pid))
    await asyncio.wait({*events, ready}, return_when=asyncio.FIRST_COMPLETED)
    if ready.done() and not ready.result():
        return Exit.NOT_READY
    if ready.done():
        options = server.options
        announce(banner(server.models, options.address, options.health_port, options.proxy))
        watch = asyncio.create_task(monitor(server.status, server.readiness))
        await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
        watch.cancel()
    ready.cancel()
    if torchserve_exit.done():
        logger.error("TorchServe exited with code %s; shutting down", torchserve_exit.result())
        return Exit.TORCHSERVE_DIED
    if proxy_exit.done():
        logger.error("nginx exited with code %s; shutting down", proxy_exit.result())
        return Exit.PROXY_DIED
    return await shut_down(server, torchserve.pid)


async def _set(event: asyncio.Event) -> int:
    await event.wait()
    return 0


async def _never() -> int:
    await asyncio.Event().wait()
    raise AssertionError
