"""Arguments and options of the commands that manage the versions of a running server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from radserve.cli import parse
from radserve.cli.options import option, setting
from radserve.errors import InvalidCallError

if TYPE_CHECKING:
    from radserve.client.control import Control


def _check_version(text: str | None) -> str | None:
    return None if text is None else parse.version(text)


Name = Annotated[str, typer.Argument(help="Model name.", callback=parse.name)]
Version = Annotated[str, typer.Argument(help="Model version.", callback=_check_version)]
OptionalVersion = Annotated[
    str | None, typer.Argument(help="Version to roll out. Default: watch the current rollout.", callback=_check_version)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]
Reason = Annotated[str | None, typer.Option(help="Reason, for the audit log.")]


@dataclass(frozen=True)
class Server:
    """Options that select a server."""

    context: typer.Context
    url: str | None = setting(
        None,
        "RADSERVE_MANAGEMENT_URL",
        "URL of a proxy's management port, https://HOST:8444. Default: the server on this host.",
    )
    key: str | None = setting(None, "RADSERVE_KEY", "For --url: key with the role manage; prefer the variable.")
    cacert: Path | None = option(None, "For --url: PEM file of the authority that signed the proxy's certificate.")
    runtime: Path | None = setting(
        None, "RADSERVE_RUNTIME", "Run directory of the server on this host; a temporary one is detected."
    )

    def connect(self) -> Control:
        """Select the server by the command line, else by a variable, else the only one on this host."""
        from radserve.client import discovery
        from radserve.client.control import Control

        url = self.url
        if url and self.runtime:
            explicit = [name for name in ("url", "runtime") if self.is_explicit(name)]
            if len(explicit) != 1:
                raise InvalidCallError(
                    f"--url {url} and --runtime {self.runtime} select two servers (RADSERVE_MANAGEMENT_URL and "
                    "RADSERVE_RUNTIME count as well); omit one."
                )
            url = url if explicit == ["url"] else None
        if url:
            return Control.over_url(url, self.key or None, self.cacert)
        if self.cacert is not None:
            raise InvalidCallError(f"--cacert {self.cacert} requires --url https://HOST:8444.")
        return Control.over_socket((self.runtime.absolute() / discovery.SOCKET) if self.runtime else discovery.find())

    def is_explicit(self, name: str) -> bool:
        """Return whether an option is on the command line, rather than a default or from a variable."""
        source = self.context.get_parameter_source(name)
        return source is not None and source.name == "COMMANDLINE"
