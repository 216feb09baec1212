"""`radserve-gateway`: runs the gateway under uvicorn."""

import contextlib
import logging
import socket as sockets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from gateway.errors import SettingsError
from radserve.errors import RadServeError


def serve(
    host: Annotated[str, typer.Option(envvar="RADSERVE_GATEWAY_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="RADSERVE_GATEWAY_PORT", help="Port to listen on.")] = 8000,
    socket: Annotated[
        Path | None,
        typer.Option(envvar="RADSERVE_GATEWAY_SOCKET", help="Unix socket to listen on instead, for a proxy."),
    ] = None,
    socket_group: Annotated[
        str | None,
        typer.Option(
            envvar="RADSERVE_GATEWAY_SOCKET_GROUP",
            help="Group that may connect to the socket (name or number), such as that of nginx's user. "
            "Default: the group of the gateway's user.",
        ),
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
    application = app.create(settings)
    with _listening(socket, socket_group) as listener:
        uvicorn.run(
            application,
            host=host,
            port=port,
            fd=None if listener is None else listener.fileno(),
            server_header=False,
            proxy_headers=bool(proxies),
            forwarded_allow_ips=proxies,
            **http_server.OPTIONS,
        )


@contextlib.contextmanager
def _listening(path: Path | None, group: str | None) -> Iterator[sockets.socket | None]:
    """Listen on a unix socket for the gateway's user and one group, if there is a path."""
    from radserve.host import unix_socket

    if path is None:
        yield None
        return
    try:
        listening = contextlib.ExitStack()
        listener = listening.enter_context(unix_socket.listen(path, 0o660, group))
    except LookupError as error:
        raise SettingsError(f"RADSERVE_GATEWAY_SOCKET_GROUP: unknown group {group!r}.") from error
    except OSError as error:
        raise SettingsError(
            f"RADSERVE_GATEWAY_SOCKET: cannot listen on {path}: {error.strerror or error}. The gateway's user must be "
            "able to write to its folder, and belong to RADSERVE_GATEWAY_SOCKET_GROUP."
        ) from error
    with listening:
        yield listener


def main() -> None:
    """Run the command; report a `RadServeError` in one line."""
    try:
        typer.run(serve)
    except RadServeError as error:
        typer.echo(f"radserve-gateway: {error}", err=True)
        sys.exit(1)
