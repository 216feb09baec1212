"""`radserve-gateway`: the gateway under uvicorn."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from radserve.errors import RadServeError


def serve(
    host: Annotated[str, typer.Option(envvar="RADSERVE_GATEWAY_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="RADSERVE_GATEWAY_PORT", help="Port to listen on.")] = 8000,
    socket: Annotated[
        Path | None,
        typer.Option(envvar="RADSERVE_GATEWAY_SOCKET", help="Unix socket to listen on instead, for nginx before it."),
    ] = None,
) -> None:
    """Serve web page and API before a server; variables named RADSERVE_GATEWAY_... say how."""
    import uvicorn

    from gateway import app
    from gateway.access import factory as chosen
    from gateway.settings import Settings
    from radserve import logging as log

    log.configure()
    settings = Settings.read()
    logging.getLogger("gateway").setLevel(settings.log)
    # Who listens on a socket does so for a proxy, and that for others. So its peer is that proxy, which has no address.
    chosen.require_safe(settings, host if socket is None else f"unix:{socket}")
    proxies = ["*"] if socket else list(settings.proxies)
    uvicorn.run(
        app.make(settings),
        host=host,
        port=port,
        uds=str(socket) if socket else None,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
    )


def main() -> None:
    """Run the command line; what RadServe itself refuses is one line, not a traceback."""
    try:
        typer.run(serve)
    except RadServeError as error:
        typer.echo(f"radserve-gateway: {error}", err=True)
        sys.exit(1)
