"""A server and its gateway on one machine, started and stopped together: what `scripts/serve --with-front` runs.

The two are programs of their own, and this looks after them: the gateway is stopped first, so that nobody is sent on
to a server that is stopping, then the server finishes what it has.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
import typer

from radserve import logging as log
from radserve.cli import serve
from radserve.errors import RadServeError, ServeError
from radserve.host import ports
from radserve.host.process import die_with_parent

logger = logging.getLogger("radserve.cli.with_gateway")

GATEWAY_DIED: Final = 7
"""The exit code where the gateway ended by itself, and the server had nothing to say about it."""
_GRACE: Final = 10.0
"""Seconds that the gateway has to finish what it has."""
_FLAG: Final = "--with-front"
_PREFIX: Final = "RADSERVE_GATEWAY_"


@dataclass(frozen=True)
class Places:
    """Where both are found.

    Attributes
    ----------
    server, supervisor
        What the gateway asks.
    gateway
        What people open.
    """

    server: str
    supervisor: str
    gateway: str
    keys: str = ""

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return the variables of the gateway: those that were given, and where the server beside it is."""
        wanted = {f"{_PREFIX}SERVER": self.server, f"{_PREFIX}SUPERVISOR": self.supervisor}
        keys = {f"{_PREFIX}KEYS": self.keys} if self.keys else {}
        return keys | dict(given) | wanted


def places(words: Sequence[str], given: Mapping[str, str]) -> Places:
    """Read where a server will listen from its own options, and where the gateway will from its variables.

    Raises
    ------
    ServeError
        If the server is to be published by nginx: then the gateway belongs behind nginx too.
    """
    chosen = _options(words)
    if (
        chosen["front"]
        or chosen["certificate"]
        or chosen["plain_http"]
        or not ports.address(chosen["host"]).is_loopback
    ):
        raise ServeError(
            "--with-front is for this machine alone, and these options publish the server by nginx. Start the gateway "
            "by itself then, and name it with --gateway: docs/gateway.md."
        )
    host, port = given.get(f"{_PREFIX}HOST", "127.0.0.1"), given.get(f"{_PREFIX}PORT", "8000")
    name = f"[{host}]" if ":" in host else host
    return Places(
        server=f"http://127.0.0.1:{chosen['port'] or 8080}",
        supervisor=f"http://127.0.0.1:{chosen['health_port']}",
        gateway=f"http://{name}:{port}",
        keys=chosen["keys"] or "",
    )


def _options(words: Sequence[str]) -> dict[str, Any]:
    """Read options as `radserve serve` does; a wrong one, or --help, ends this program as it would end that."""
    app = typer.Typer(add_completion=False)
    app.command()(serve.serve)
    command = typer.main.get_command(app)
    chosen: dict[str, Any] = {}
    command.callback = chosen.update
    try:
        command.main(list(words), prog_name=f"scripts/serve {_FLAG}")
    except SystemExit as end:
        if end.code or not chosen:
            raise
    return chosen


async def run(words: Sequence[str], announce: Callable[[str], None]) -> int:
    """Run both until SIGTERM, Ctrl-C, or the end of one; return the server's exit code."""
    found = places(words, os.environ)
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await _start("radserve", "serve", *words)
    gateway = await _start("gateway", environment=found.environment(os.environ))
    ends = {asyncio.create_task(process.wait()) for process in (server, gateway)}
    stopped, ready = asyncio.create_task(stop.wait()), asyncio.create_task(_announced(found.gateway, announce))
    try:
        await asyncio.wait({*ends, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return await _end(server, gateway, asked=stop.is_set())
    finally:
        for task in (stopped, ready):
            task.cancel()


async def _start(module: str, *words: str, environment: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *words,
        env=None if environment is None else dict(environment),
        stdin=asyncio.subprocess.DEVNULL,
        # A session of its own: Ctrl-C reaches this program alone, which keeps the order.
        start_new_session=True,
        preexec_fn=die_with_parent,
    )


async def _end(server: asyncio.subprocess.Process, gateway: asyncio.subprocess.Process, *, asked: bool) -> int:
    died = gateway.returncode is not None and not asked
    if died:
        logger.error("the gateway ended with %s; the server is stopped as well", gateway.returncode)
    elif server.returncode is not None and not asked:
        logger.error("the server ended with %s; the gateway is stopped as well", server.returncode)
    await _stop(gateway, _GRACE)
    await _stop(server, None)  # it has bounds of its own
    code = server.returncode or 0
    code = code if code >= 0 else 128 - code  # as a shell gives it
    return code if code or not died else GATEWAY_DIED


async def _stop(process: asyncio.subprocess.Process, patience: float | None) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), patience)
    except TimeoutError:
        logger.warning("the gateway has not stopped within %g s; it is killed", patience)
        process.kill()
        await process.wait()


async def _announced(url: str, announce: Callable[[str], None]) -> None:
    """Say where the page is, once requests are answered by way of it."""
    async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
        while True:
            await asyncio.sleep(0.1)
            try:
                answer = await client.get(f"{url}/ready")
            except httpx.HTTPError:
                continue
            if answer.status_code == httpx.codes.OK:
                announce(f"The page is at {url}")
                return


def main() -> None:
    """Run both with the options of `radserve serve`."""
    log.configure()
    try:
        code = asyncio.run(run([word for word in sys.argv[1:] if word != _FLAG], typer.echo))
    except RadServeError as error:
        typer.echo(f"radserve: {error}", err=True)
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
