"""Arguments and options of the commands that manage the versions of a running server."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, get_type_hints

import typer

if TYPE_CHECKING:
    from radserve.client.control import Control


def _check_name(text: str) -> str:
    from radserve.cli import parse

    return parse.name(text)


def _check_version(text: str | None) -> str | None:
    from radserve.cli import parse

    return None if text is None else parse.version(text)


Connect = Callable[[], "Control"]
"""Connects to the selected server; a context manager."""
Name = Annotated[str, typer.Argument(help="Model name.", callback=_check_name)]
Version = Annotated[str, typer.Argument(help="Model version.", callback=_check_version)]
OptionalVersion = Annotated[
    str | None, typer.Argument(help="Version to roll out. Default: watch the current rollout.", callback=_check_version)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]
Reason = Annotated[str | None, typer.Option(help="Reason, for the audit log.")]

_CONNECTION: Final[dict[str, Any]] = {
    "context": typer.Context,
    "url": Annotated[
        str | None,
        typer.Option(
            envvar="RADSERVE_MANAGEMENT_URL",
            help="URL of a proxy's management port, https://HOST:8444. Default: the server on this host.",
        ),
    ],
    "key": Annotated[
        str | None,
        typer.Option(envvar="RADSERVE_KEY", help="For --url: key with the role manage; prefer the variable."),
    ],
    "cacert": Annotated[
        Path | None,
        typer.Option(help="For --url: PEM file of the authority that signed the proxy's certificate."),
    ],
    "runtime": Annotated[
        Path | None,
        typer.Option(
            envvar="RADSERVE_RUNTIME", help="Run directory of the server on this host; a temporary one is detected."
        ),
    ],
}


def with_connection(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that select a server; the command gets a function that connects as its first argument."""

    @functools.wraps(command)
    def run(
        context: typer.Context,
        url: str | None,
        key: str | None,
        cacert: Path | None,
        runtime: Path | None,
        **arguments: object,
    ) -> None:
        if "context" in hints:
            arguments["context"] = context
        command(functools.partial(_connect, context, url, key, cacert, runtime), **arguments)

    hints = get_type_hints(command, localns={"Control": Any}, include_extras=True)
    _, *own = inspect.signature(command).parameters.values()
    parameters = [
        parameter.replace(annotation=hints[parameter.name]) for parameter in own if parameter.name != "context"
    ] + [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if name == "context" else None,
            annotation=annotation,
        )
        for name, annotation in _CONNECTION.items()
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _connect(
    context: typer.Context, url: str | None, key: str | None, cacert: Path | None, runtime: Path | None
) -> Control:
    """Select the server: by the command line, else by a variable, else the one that runs on this host.

    Raises
    ------
    InvalidCallError, UnreachableError
        If the selection is ambiguous, or no server runs.
    """
    from radserve.client import discovery
    from radserve.client.control import Control
    from radserve.errors import InvalidCallError

    if url and runtime:
        explicit = [name for name in ("url", "runtime") if is_explicit(context, name)]
        if len(explicit) != 1:
            raise InvalidCallError(
                f"--url {url} and --runtime {runtime} select two servers (RADSERVE_MANAGEMENT_URL and "
                "RADSERVE_RUNTIME count as well); omit one."
            )
        url = url if explicit == ["url"] else None
    if url:
        return Control.over_url(url, key or None, cacert)
    if cacert is not None:
        raise InvalidCallError(f"--cacert {cacert} requires --url https://HOST:8444.")
    return Control.over_socket((runtime.absolute() / discovery.SOCKET) if runtime else discovery.find())


def is_explicit(context: typer.Context, name: str) -> bool:
    """Return whether an option is on the command line, rather than a default or from a variable."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
