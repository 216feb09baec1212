"""`radserve-gateway`: runs the gateway under uvicorn."""

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
        typer.Option(envvar="RADSERVE_GATEWAY_SOCKET", help="Unix socket to listen on instead, for a proxy."),
    ] = None,
) -> None:
    """Serve the web page and the API. Configure the gateway with RADSERVE_GATEWAY_... variables."""
    import uvicorn

    from gateway import app
    from gateway.access import authentication
    from gateway.settings import Settings
    from radserve import logging as log
    from radserve.host import http_server

    log.configure()
    settings = Settings.read()
    logging.getLogger("gateway").setLevel(settings.log)
    # A unix socket serves a proxy, which serves other machines. The proxy is the only peer, and has no address.
    authentication.require_safe(settings, host if socket is None else f"unix:{socket}")
    proxies = ["*"] if socket else list(settings.proxies)
    uvicorn.run(
        app.create(settings),
        host=host,
        port=port,
        uds=str(socket) if socket else None,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        **http_server.OPTIONS,
    )


def main() -> None:
    """Run the command; report a `RadServeError` in one line."""
    try:
        typer.run(serve)
    except RadServeError as error:
        typer.echo(f"radserve-gateway: {error}", err=True)
        sys.exit(1)
