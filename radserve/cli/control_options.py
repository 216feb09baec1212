"""What every command about a running server may be told, and the server that is meant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from radserve.client.control import Control

Name = Annotated[str, typer.Argument(help="The model.")]
Version = Annotated[str, typer.Argument(help="Of the model.")]
Url = Annotated[
    str | None,
    typer.Option(
        envvar="RADSERVE_MANAGEMENT_URL", help="Management port of a front, https://HOST:8444; else a server here."
    ),
]
Key = Annotated[
    str | None, typer.Option(envvar="RADSERVE_KEY", help="For --url: a key that manages; better as variable.")
]
CaCert = Annotated[
    Path | None,
    typer.Option(help="For --url: PEM file of the authority that signed the front's certificate."),
]
Runtime = Annotated[
    Path | None,
    typer.Option(envvar="RADSERVE_RUNTIME", help="Folder that the server here was given; found if it is temporary."),
]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
Reason = Annotated[str | None, typer.Option(help="Why; stands in the audit log.")]


def control(context: typer.Context, url: str | None, key: str | None, cacert: Path | None) -> Control:
    """Choose the server: what the command line names, else what a variable names, else the one that runs here.

    Parameters
    ----------
    context
        Of a command with the option --runtime, too.

    Raises
    ------
    WrongCall, Unreachable
        If it is not clear which is meant, or none runs.
    """
    from radserve.client import discovery
    from radserve.client.control import Control
    from radserve.errors import InvalidCallError

    runtime: Path | None = context.params["runtime"]
    if url and runtime:
        chosen = [name for name in ("url", "runtime") if by_hand(context, name)]
        if len(chosen) != 1:
            raise InvalidCallError(
                f"--url {url} and --runtime {runtime} name two servers (RADSERVE_MANAGEMENT_URL and "
                "RADSERVE_RUNTIME count as well); leave one away."
            )
        url = url if chosen == ["url"] else None
    if url:
        return Control.over_url(url, key or None, cacert)
    if cacert is not None:
        raise InvalidCallError(f"--cacert {cacert} is for a front with TLS; name it with --url https://HOST:8444.")
    return Control.over_socket((runtime.absolute() / discovery.SOCKET) if runtime else discovery.find())


def by_hand(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line, and is not a default or a variable's."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
