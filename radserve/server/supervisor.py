"""Supervisor: runs TorchServe and the proxy from the start to the exit code.

`startup` makes the server ready, `monitor` watches it, and `shutdown` handles SIGTERM.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from handlers.recipe import Recipe
from handlers.scope import requirements
from radserve import tracing
from radserve.auth.key_check import Keyring
from radserve.build import model_store
from radserve.host import process, run_directory, service_user
from radserve.host.ports import LOOPBACK
from radserve.host.resources import cores, plan
from radserve.host.stop_signals import stop_event
from radserve.rayserve.launch import require_no_rollouts
from radserve.schema.domain import Mode
from radserve.server.components import Components
from radserve.server.monitor import monitor
from radserve.server.options import ServerOptions
from radserve.server.shutdown import shut_down
from radserve.server.startup import start_engine, wait_until_ready
from radserve.server.status import Exit, State
from radserve.torchserve.verified_models import require_one_each, select, unpack, with_profile, without_model
from radserve.torchserve.worker_start import reap_workers, run_fork_server
from radserve.versions.stored_state import StateFolder

logger = logging.getLogger(__name__)

_DOMAIN: Final[Mapping[Mode, str]] = {
    "strict": "rejected",
    "warn": "analysed, with a warning",
    "off": "analysed without a warning",
}


async def serve(options: ServerOptions, announce: Callable[[str], None]) -> Exit:
    """Serve until SIGTERM or SIGINT; call `announce` with the text to print once the server is ready."""
    options.require_safe()
    options.require_ports()
    options.require_known_models()
    tracing.require_exporter()
    keyring = Keyring.open(options.keys) if options.keys else None
    state = StateFolder(options.state_folder)
    if options.engine == "ray":
        require_no_rollouts(state.state.rollouts)
    quarantined = state.state.in_quarantine(model_store.released(options.store))
    archives = select(options.store, _declared(state, options.models), quarantined)
    require_one_each(options.profiles)
    models = [with_profile(model, options.profiles) for model in archives]
    for item in without_model(models, options.profiles):
        unused = item.profile
        text = "the profile of %s is for %s %s, which is not served: it is applied once that version is registered"
        logger.warning(text, unused.site, unused.model, unused.version)
    for model in models:
        if model.recipe.warning is not None:
            logger.warning("%s %s: %s", model.entry.name, model.entry.version, model.recipe.warning)
    scopes = {model.entry.name: model.recipe.scope.attributes for model in models}
    for requirement in requirements.without_effect(options.require, scopes):
        logger.warning("--require %s has no effect: the scope of no served model restricts it", requirement)
    worker_plan = plan(len({model.entry.name for model in models}), cores(), options.workers)
    stop = stop_event()  # before there are files to remove
    with run_directory.opened(options.run_directory) as directory:
        directory.prepare()
        return await _run(Components(options, models, worker_plan, directory, keyring, state), stop, announce)


def _declared(state: StateFolder, models: Sequence[str]) -> Sequence[str]:
    """Return the models to serve: those of the saved deployment, if any, else those of the options."""
    deployment = state.state.deployment
    if deployment is None:
        return models
    declared = [f"{name}/{version}" for name, model in deployment.models.items() for version in model.versions]
    if models and {name.partition("/")[0] for name in models} != set(deployment.models):
        logger.warning(
            "--models is ignored (%s): the deployment saved in %s takes precedence: %s",
            ", ".join(sorted(models)),
            state.path,
            ", ".join(declared),
        )
    return declared


async def _run(server: Components, stop: asyncio.Event, announce: Callable[[str], None]) -> Exit:
    """Start the components, supervise them and stop them."""
    options = server.options
    async with contextlib.AsyncExitStack() as stack:
        if server.proxy is not None:
            server.proxy.reload_at_sighup()
        await stack.enter_async_context(server.health)
        await stack.enter_async_context(server.traffic)
        await stack.enter_async_context(server.control)
        stack.push_async_callback(server.tasks.stop)
        if options.forks:
            fork_server = partial(run_fork_server, server.run_directory, options.store, server.plan.threads)
            server.tasks.start("fork server", fork_server)
            if os.getpid() == 1:
                server.tasks.start("reaping of workers", reap_workers)
        if server.keyring is not None:
            server.tasks.start("key reload", server.keyring.watch)
        stack.push_async_callback(server.management.close)
        stack.push_async_callback(server.readiness.close)
        if server.proxy is not None:
            # nginx starts first: until TorchServe is ready it answers 503, and /ready says why.
            stack.push_async_callback(server.proxy.stop)
            await server.proxy.start()
        service_user.warn_of_root()
        for model in server.models:
            if stop.is_set():
                return Exit.STOPPED
            folder = server.run_directory.models
            await asyncio.to_thread(unpack, model.entry, options.store, folder, options.startup_timeout)
        torchserve = await start_engine(server)
        # Killed, because it has finished its requests, stores nothing, and would take seconds to stop.
        stack.push_async_callback(process.kill, torchserve)
        stack.push_async_callback(server.versions.stop)
        stack.push_async_callback(server.rollouts.stop)
        return await _supervise(server, torchserve, stop, announce)


async def _supervise(
    server: Components, torchserve: asyncio.subprocess.Process, stop: asyncio.Event, announce: Callable[[str], None]
) -> Exit:
    """Wait for readiness, then for a signal or the end of a process."""
    torchserve_exit = asyncio.create_task(torchserve.wait())
    proxy_exit = asyncio.create_task(server.proxy.keep_running()) if server.proxy else None
    events: set[asyncio.Task[Any]] = {torchserve_exit, asyncio.create_task(stop.wait())}
    if proxy_exit is not None:
        events.add(proxy_exit)
    ready = asyncio.create_task(wait_until_ready(server))
    await asyncio.wait({*events, ready}, return_when=asyncio.FIRST_COMPLETED)
    if ready.done() and not ready.result():
        return Exit.NOT_READY
    if ready.done():
        announce(_banner(server))
        watch = server.tasks.start("monitor", lambda: monitor(server.status, server.readiness))
        await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
        watch.cancel()
    ready.cancel()
    stopped_early = stop.is_set() and server.status.state is State.STARTING
    if torchserve_exit.done() and not stopped_early:
        logger.error("%s exited with code %s; shutting down", server.options.engine_name, torchserve_exit.result())
        return Exit.TORCHSERVE_DIED
    if proxy_exit is not None and proxy_exit.done():
        logger.error("nginx keeps exiting, with code %s; shutting down", proxy_exit.result())
        return Exit.PROXY_DIED
    return await shut_down(server)


def comparison_lines(recipes: Sequence[Recipe], mode: Mode) -> list[str]:
    """Return lines that say what happens to images unlike the training images, and which models compare none."""
    without = sorted({recipe.name for recipe in recipes if recipe.detector is None})
    lines = [f"  images unlike the training images: {_DOMAIN[mode]} (--domain {mode})"]
    if len(without) < len({recipe.name for recipe in recipes}):
        return [*lines, f"  not compared, because they have no detector: {', '.join(without)}"] if without else lines
    return ["  images are not compared with the training images: no model has a detector"]


def _banner(server: Components) -> str:
    """Return the server's URL, its models, its ports and a command to try."""
    options, proxy = server.options, server.options.proxy
    first = server.models[0]
    sample = f"archives/{first.entry.name}/{first.recipe.sample}"
    lines = [f"RadServe is ready at {proxy.url}" if proxy else "RadServe is ready for 'radserve front'"]
    lines += [f"  {model.entry.name} {model.entry.version}  {model.recipe.title}" for model in server.models]
    lines += comparison_lines([model.recipe for model in server.models], options.domain)
    if proxy and proxy.has_keys:
        lines.append(f"  management port {proxy.management_port}   metrics port {proxy.metrics_port}")
    scrape = f"   metrics {LOOPBACK}:{proxy.scrape_port}/metrics" if proxy and proxy.scrape_port else ""
    lines.append(f"  health {LOOPBACK}:{options.health_port}/ready{scrape}")
    if proxy:
        key = '-H "X-API-Key: $RADSERVE_KEY" ' if proxy.has_keys else ""
        lines.append(f"  curl {key}-T {sample} {proxy.url}/predictions/{first.entry.name}")
    return "\n".join(lines)
