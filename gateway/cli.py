"""`radserve-gateway`: the gateway under uvicorn."""

from __future__ import annotations

from typing import Annotated

import typer


def serve(
    host: Annotated[str, typer.Option(envvar="RADSERVE_GATEWAY_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="RADSERVE_GATEWAY_PORT", help="Port to listen on.")] = 8000,
) -> None:
    """Serve web page and API before a server; variables named RADSERVE_GATEWAY_... say how."""
    import uvicorn

    from gateway import app
    from gateway.settings import Settings
    from radserve import log

    log.configure()
    settings = Settings.read()
    uvicorn.run(app.make(settings), host=host, port=port, log_config=None, access_log=False, server_header=False)


def main() -> None:
    """Run the command line."""
    typer.run(serve)
