"""`radserve audit`: show and verify the audit log of a server."""

from pathlib import Path
from typing import Annotated

import typer

from radserve.cli import parse, versions_view
from radserve.cli.control_options import Json, Server
from radserve.cli.options import with_groups
from radserve.errors import InvalidCallError
from radserve.schema.control import AuditLog

app = typer.Typer(add_completion=False)


@app.callback(invoke_without_command=True)
@with_groups
def audit(
    *,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of entries.")] = 100,
    json: Json = False,
    server: Server,
) -> None:
    """Show who changed what, when and why; the newest entry last."""
    if server.context.invoked_subcommand is None:
        with server.connect() as control:
            versions_view.show(AuditLog(entries=control.audit(limit)), versions_view.audit, json=json)


@app.command()
@with_groups
def verify(
    *,
    state: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="State folder to read, without a server.")
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(help="SHA-256 of an earlier last entry, which must be in the log.", callback=parse.sha256),
    ] = None,
    json: Json = False,
    server: Server,
) -> None:
    """Verify that no entry was changed or removed; the exit code is 1 otherwise.

    Entries that were removed from the end are found by --head: note the head
    that this command prints, or take one from the metric radserve_audit_head_info.
    """
    if state is not None:
        from radserve.versions import audit_log

        if not (state / audit_log.FILE).exists():
            raise InvalidCallError(f"--state {state}: has no {audit_log.FILE}; it was deleted, or never written.")
        result = audit_log.AuditLog(state).verify(head)
    else:
        with server.connect() as control:
            result = control.verify_audit(head)
    versions_view.show(result, versions_view.verification, json=json)
    if result.problem is not None:
        raise typer.Exit(1)
