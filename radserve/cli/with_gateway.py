"""Server and gateway on one machine, started and stopped together (`radserve serve --with-gateway`).

Both are separate programs. The gateway is stopped first, so that it never forwards a request to a stopping server; then
the server finishes its requests.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import httpx

from radserve.host import ports
from radserve.host.process import die_with_parent
from radserve.host.stop_signals import stop_event

logger = logging.getLogger("radserve.cli.with_gateway")

GATEWAY_DIED: Final = 7  # exit code if the gateway exited on its own and the server stopped without an error
_PREFIX: Final = "RADSERVE_GATEWAY_"


@dataclass(frozen=True)
class Addresses:
    """Addresses of the server (`host`, `port`), of the supervisor and of the gateway; source of API keys, if any."""

    host: str
    port: int
    health_port: int
    gateway_host: str
    gateway_port: int
    keys: str = ""

    @property
    def gateway(self) -> str:
        """URL of the page."""
        return _url(self.gateway_host, self.gateway_port)

    @property
    def supervisor(self) -> str:
        """URL of the server's readiness."""
        return _url(ports.LOOPBACK, self.health_port)

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """Return the gateway's environment: the inherited one with these addresses."""
        addresses = {
            f"{_PREFIX}SERVER": _url(self.host, self.port),
            f"{_PREFIX}SUPERVISOR": self.supervisor,
            f"{_PREFIX}HOST": self.gateway_host,
            f"{_PREFIX}PORT": str(self.gateway_port),
        }
        keys = {f"{_PREFIX}KEYS": self.keys} if self.keys else {}
        return keys | dict(inherited) | addresses


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(addresses: Addresses, arguments: Sequence[str], announce: Callable[[str], None], grace: float = 60.0) -> int:
    """Run both until SIGTERM, Ctrl-C or the exit of one; return the server's exit code.

    `arguments` are those of the server's process: `serve`, and its options. `grace` is the time in seconds for the
    gateway to finish its requests.
    """
    return asyncio.run(_run(addresses, arguments, announce, grace))


async def _run(urls: Addresses, arguments: Sequence[str], announce: Callable[[str], None], grace: float) -> int:
    stop = stop_event()
    server = await _start("radserve", *arguments)
    gateway = await _start("gateway", environment=urls.environment(os.environ))
    exits = {asyncio.create_task(process.wait()) for process in (server, gateway)}
    stopped, ready = asyncio.create_task(stop.wait()), asyncio.create_task(_announce_ready(urls, announce))
    try:
        await asyncio.wait({*exits, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return await _shut_down(server, gateway, grace, requested=stop.is_set())
    finally:
        for task in (stopped, ready):
            task.cancel()


async def _start(
    module: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        env=None if environment is None else dict(environment),
        stdin=asyncio.subprocess.DEVNULL,
        # In its own session, Ctrl-C reaches only this program, which stops both in order.
        start_new_session=True,
        preexec_fn=die_with_parent,
    )


async def _shut_down(
    server: asyncio.subprocess.Process, gateway: asyncio.subprocess.Process, grace: float, *, requested: bool
) -> int:
    gateway_died = gateway.returncode is not None and not requested
    if gateway_died:
        logger.error("the gateway exited with code %s; stopping the server", gateway.returncode)
    elif server.returncode is not None and not requested:
        logger.error("the server exited with code %s; stopping the gateway", server.returncode)
    await _stop(gateway, grace)
    await _stop(server, None)  # the server has its own timeouts
    code = server.returncode or 0
    if requested and code == -signal.SIGTERM:  # its interpreter was starting
        code = 0
    code = code if code >= 0 else 128 - code  # as a shell reports it
    return GATEWAY_DIED if gateway_died and not code else code


async def _stop(process: asyncio.subprocess.Process, grace: float | None) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), grace)
    except TimeoutError:
        logger.warning("the gateway did not stop within %g s; killing it", grace)
        process.kill()
        await process.wait()


async def _announce_ready(urls: Addresses, announce: Callable[[str], None]) -> None:
    """Print the URL of the page once requests through it are answered.

    The gateway, which would log that the server is still starting, is queried last.
    """
    async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
        for url in (urls.supervisor, urls.gateway):
            await _ready(client, f"{url}/ready")
    announce(f"The page is at {urls.gateway}")


async def _ready(client: httpx.AsyncClient, url: str) -> None:
    """Wait for the status 200."""
    while True:
        await asyncio.sleep(0.1)
        try:
            response = await client.get(url)
        except httpx.HTTPError:
            continue
        if response.status_code == httpx.codes.OK:
            return
