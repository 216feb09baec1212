"""`radserve apply` and `radserve diff`: make a server match the models that a file declares."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from radserve.cli import terminal, versions_view
from radserve.cli.control_options import Json, Reason, Server
from radserve.cli.options import with_groups
from radserve.errors import InvalidCallError, RadServeError
from radserve.schema.deployment import Change, DeploymentDiff

File = Annotated[Path, typer.Argument(help="Deployment file; 'radserve models export' writes one.")]


@with_groups
def apply(
    file: File = Path("deployment.yaml"),
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Unregister versions without confirmation.")] = False,
    reason: Reason = None,
    json: Json = False,
    server: Server,
) -> None:
    """Change the server to match a deployment file: models, versions, shares, workers.

    Prints the changes, and asks for confirmation before a version is
    unregistered. Versions that the file does not name are unregistered. A
    second run changes nothing.

    Exit codes:
    0    the server matches the file
    1    a change failed; the error says why
    2    invalid usage or an invalid file; nothing was changed
    3    no server is running
    """
    from radserve.versions import deployment_file

    wanted = deployment_file.load(file)
    out = terminal.console(stderr=json)
    applied: tuple[Change, ...] = ()
    with server.connect() as control:
        planned = control.diff(wanted)
        versions_view.changes(out, planned)
        if planned:
            _confirm(planned, yes=yes)
            with versions_view.waiting(f"Applying {len(planned)} changes"):
                applied = control.apply(wanted, reason)
    if json:
        terminal.print_json(DeploymentDiff(changes=applied))
        return
    if set(applied) != set(planned):
        out.print("The server changed in the meantime. Applied:")
        versions_view.changes(out, applied)
    out.print("Done." if planned else "No changes.")


@with_groups
def diff(file: File = Path("deployment.yaml"), *, json: Json = False, server: Server) -> None:
    """Print what 'radserve apply' would change, without changing it.

    Exit codes:
    0    no changes
    1    changes
    2    invalid usage, an invalid file, or no server is running
    """
    from radserve.versions import deployment_file

    try:
        wanted = deployment_file.load(file)
        with server.connect() as control:
            planned = control.diff(wanted)
    except RadServeError as error:
        typer.echo(f"radserve: {error}", err=True)
        raise typer.Exit(2) from error
    if json:
        terminal.print_json(DeploymentDiff(changes=planned))
    else:
        versions_view.changes(terminal.console(), planned)
    if planned:
        raise typer.Exit(1)


def _confirm(changes: tuple[Change, ...], *, yes: bool) -> None:
    """Ask before a version is unregistered; without a terminal, require --yes."""
    versions = ", ".join(f"{change.model} {change.version}" for change in changes if change.action == "unregister")
    if not versions or yes:
        return
    if not sys.stdin.isatty():
        raise InvalidCallError(f"{versions} would be unregistered; confirm with --yes.")
    typer.confirm(f"Unregister {versions}?", abort=True, err=True)
