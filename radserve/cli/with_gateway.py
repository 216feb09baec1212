"""Server and gateway on one machine, started and stopped together (`scripts/serve --with-front`).

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
from typing import Any, Final

import httpx
import typer

from radserve import logging as log
from radserve.cli import serve
from radserve.errors import RadServeError, ServeError
from radserve.host import ports, service_user
from radserve.host.process import die_with_parent
from radserve.host.stop_signals import stop_event

logger = logging.getLogger("radserve.cli.with_gateway")

GATEWAY_DIED: Final = 7  # exit code if the gateway exited on its own and the server stopped without an error
_GRACE: Final = 10.0  # seconds for the gateway to finish its requests
_FLAG: Final = "--with-front"
_PREFIX: Final = "RADSERVE_GATEWAY_"


@dataclass(frozen=True)
class Addresses:
    """URLs of the server and the supervisor, which the gateway calls, and of its page; source of API keys if any.

    `listens` is the address and the port of the gateway.
    """

    server: str
    supervisor: str
    gateway: str
    keys: str = ""
    listens: tuple[str, int] = (ports.LOOPBACK, 8000)

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """Return the gateway's environment: the inherited one with the URLs of the server."""
        urls = {f"{_PREFIX}SERVER": self.server, f"{_PREFIX}SUPERVISOR": self.supervisor}
        keys = {f"{_PREFIX}KEYS": self.keys} if self.keys else {}
        return keys | dict(inherited) | urls


def addresses(arguments: Sequence[str], environment: Mapping[str, str]) -> Addresses:
    """Derive the addresses; ServeError if nginx publishes the server, because it must publish the gateway too."""
    options = _parse(arguments)
    local = ports.parse_address(options["host"]).is_loopback
    if options["front"] is not None or options["certificate"] or options["plain_http"] or not local:
        raise ServeError(
            "--with-front works on one machine only, but these options publish the server, or start no nginx. "
            "Start the gateway separately and set --gateway: docs/gateway.md."
        )
    host, port = environment.get(f"{_PREFIX}HOST", ports.LOOPBACK), environment.get(f"{_PREFIX}PORT", "8000")
    if not port.isdecimal():
        raise ServeError(f"{_PREFIX}PORT has value {port!r}; set it to a port, like 8000.")
    server, gateway = (f"[{name}]" if ":" in name else name for name in (options["host"], host))
    return Addresses(
        server=f"http://{server}:{options['port'] or 8080}",
        supervisor=f"http://127.0.0.1:{options['health_port']}",
        gateway=f"http://{gateway}:{port}",
        keys=options["keys"] or "",
        listens=(host, int(port)),
    )


def _parse(arguments: Sequence[str]) -> dict[str, Any]:
    """Parse options like `radserve serve`; an invalid option, or --help, exits like it too."""
    app = typer.Typer(add_completion=False)
    app.command()(serve.serve)
    command = typer.main.get_command(app)
    options: dict[str, Any] = {}
    command.callback = options.update
    try:
        command.main(list(arguments), prog_name=f"scripts/serve {_FLAG}")
    except SystemExit as end:
        if end.code or not options:
            raise
    return options


async def run(arguments: Sequence[str], announce: Callable[[str], None]) -> int:
    """Run both until SIGTERM, Ctrl-C or the exit of one; return the server's exit code."""
    urls = addresses(arguments, os.environ)
    ports.require_free({f"{_PREFIX}PORT": urls.listens})
    user = _parse(arguments)["user"]
    if user:  # else the server warns
        service_user.become(user)
    stop = stop_event()
    server = await _start("radserve", "serve", *arguments)
    gateway = await _start("gateway", environment=urls.environment(os.environ))
    exits = {asyncio.create_task(process.wait()) for process in (server, gateway)}
    stopped, ready = asyncio.create_task(stop.wait()), asyncio.create_task(_announce_ready(urls.gateway, announce))
    try:
        await asyncio.wait({*exits, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return await _shut_down(server, gateway, requested=stop.is_set())
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
    server: asyncio.subprocess.Process, gateway: asyncio.subprocess.Process, *, requested: bool
) -> int:
    gateway_died = gateway.returncode is not None and not requested
    if gateway_died:
        logger.error("the gateway exited with code %s; stopping the server", gateway.returncode)
    elif server.returncode is not None and not requested:
        logger.error("the server exited with code %s; stopping the gateway", server.returncode)
    await _stop(gateway, _GRACE)
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


async def _announce_ready(url: str, announce: Callable[[str], None]) -> None:
    """Print the URL of the page once requests through it are answered."""
    async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
        while True:
            await asyncio.sleep(0.1)
            try:
                response = await client.get(f"{url}/ready")
            except httpx.HTTPError:
                continue
            if response.status_code == httpx.codes.OK:
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
