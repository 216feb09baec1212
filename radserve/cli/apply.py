"""`radserve apply`, `diff` and `audit`: the deployment that a file declares, and the audit log."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from radserve.cli.control_options import Connect, Json, Reason, with_connection

if TYPE_CHECKING:
    from radserve.schema.deployment import Change

File = Annotated[Path, typer.Argument(help="Deployment file; 'radserve models export' writes one.")]


@with_connection
def apply(
    connect: Connect,
    file: File = Path("deployment.yaml"),
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Unregister versions without confirmation.")] = False,
    reason: Reason = None,
    json: Json = False,
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
    from radserve.cli import versions_view
    from radserve.schema.deployment import DeploymentDiff
    from radserve.versions import deployment_file

    wanted = deployment_file.load(file)
    out = versions_view.console(stderr=json)
    applied: tuple[Change, ...] = ()
    with connect() as server:
        planned = server.diff(wanted)
        versions_view.changes(out, planned)
        if planned:
            _confirm(planned, yes=yes)
            with versions_view.waiting(f"Applying {len(planned)} changes"):
                applied = server.apply(wanted, reason)
    if json:
        versions_view.json(versions_view.console(), DeploymentDiff(changes=applied))
        return
    if set(applied) != set(planned):
        out.print("The server changed in the meantime. Applied:")
        versions_view.changes(out, applied)
    out.print("Done." if planned else "No changes.")


@with_connection
def diff(connect: Connect, file: File = Path("deployment.yaml"), *, json: Json = False) -> None:
    """Print what 'radserve apply' would change, without changing it.

    Exit codes:
    0    no changes
    1    changes
    2    invalid usage, an invalid file, or no server is running
    """
    from radserve.cli import versions_view
    from radserve.errors import RadServeError
    from radserve.schema.deployment import DeploymentDiff
    from radserve.versions import deployment_file

    try:
        wanted = deployment_file.load(file)
        with connect() as server:
            planned = server.diff(wanted)
    except RadServeError as error:
        typer.echo(f"radserve: {error}", err=True)
        raise typer.Exit(2) from error
    if json:
        versions_view.json(versions_view.console(), DeploymentDiff(changes=planned))
    else:
        versions_view.changes(versions_view.console(), planned)
    if planned:
        raise typer.Exit(1)


@with_connection
def audit(
    connect: Connect,
    *,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of entries.")] = 100,
    json: Json = False,
) -> None:
    """Show who changed what, when and why; the newest entry last."""
    from radserve.cli import versions_view
    from radserve.schema.control import AuditLog

    with connect() as server:
        entries = server.audit(limit)
    if json:
        versions_view.json(versions_view.console(), AuditLog(entries=entries))
    else:
        versions_view.audit(versions_view.console(), entries)


def _confirm(changes: tuple[Change, ...], *, yes: bool) -> None:
    """Ask before a version is unregistered; without a terminal, require --yes."""
    from radserve.errors import InvalidCallError

    versions = ", ".join(f"{change.model} {change.version}" for change in changes if change.action == "unregister")
    if not versions or yes:
        return
    if not sys.stdin.isatty():
        raise InvalidCallError(f"{versions} would be unregistered; confirm with --yes.")
    typer.confirm(f"Unregister {versions}?", abort=True, err=True)
