"""`radserve apply`, `diff` and `audit`: the state that a file declares, and who changed what."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from radserve.cli.control_options import CaCert, Json, Key, Reason, Runtime, Url, control

if TYPE_CHECKING:
    from radserve.schema.deployment import Change

File = Annotated[Path, typer.Argument(help="What the server shall have; 'radserve models export' writes one.")]
Yes = Annotated[bool, typer.Option("--yes", help="Unregister without asking.")]


def apply(
    context: typer.Context,
    file: File = Path("deployment.yaml"),
    *,
    yes: Yes = False,
    reason: Reason = None,
    json: Annotated[bool, typer.Option("--json", help="What was done, as JSON on standard output.")] = False,
    url: Url = None,
    key: Key = None,
    cacert: CaCert = None,
    runtime: Runtime = None,  # noqa: ARG001 - `control` reads it
) -> None:
    """Make the server have what a file says: models, versions, shares, workers.

    Shows first what changes, and asks before anything is unregistered. What
    the file does not name is unregistered. Doing it again changes nothing.

    Exit codes:
    0    the server has it
    1    it has not; the line says why
    2    wrong usage, or the file is wrong; nothing was changed
    3    nobody answers
    """
    from radserve.cli import versions_view
    from radserve.schema.deployment import DeploymentDiff
    from radserve.versions import deployment_spec

    want = deployment_spec.load(file)
    out = versions_view.console(stderr=json)
    with control(context, url, key, cacert) as server:
        todo = server.diff(want)
        versions_view.changes(out, todo)
        done: tuple[Change, ...] = ()
        if todo:
            _agree(todo, yes=yes)
            with versions_view.waiting(f"{len(todo)} changes are made"):
                done = server.apply(want, reason)
    if json:
        versions_view.json(versions_view.console(), DeploymentDiff(changes=done))
        return
    if set(done) != set(todo):
        out.print("Meanwhile somebody else changed something. What was done:")
        versions_view.changes(out, done)
    out.print("Done." if todo else "Nothing to change.")


def diff(
    context: typer.Context,
    file: File = Path("deployment.yaml"),
    *,
    json: Json = False,
    url: Url = None,
    key: Key = None,
    cacert: CaCert = None,
    runtime: Runtime = None,  # noqa: ARG001
) -> None:
    """Show what 'radserve apply' would change, and change nothing.

    Exit codes:
    0    nothing
    1    something
    2    it cannot be told: wrong usage, a wrong file, nobody answers
    """
    from handlers.errors import RadServeError
    from radserve.cli import versions_view
    from radserve.schema.deployment import DeploymentDiff
    from radserve.versions import deployment_spec

    try:
        want = deployment_spec.load(file)
        with control(context, url, key, cacert) as server:
            todo = server.diff(want)
    except RadServeError as error:
        typer.echo(f"radserve: {error}", err=True)
        raise typer.Exit(2) from error
    if json:
        versions_view.json(versions_view.console(), DeploymentDiff(changes=todo))
    else:
        versions_view.changes(versions_view.console(), todo)
    if todo:
        raise typer.Exit(1)


def audit(
    context: typer.Context,
    *,
    limit: Annotated[int, typer.Option(min=1, help="Show at most the last so many entries.")] = 100,
    json: Json = False,
    url: Url = None,
    key: Key = None,
    cacert: CaCert = None,
    runtime: Runtime = None,  # noqa: ARG001
) -> None:
    """Show who changed what, when and why; the newest last."""
    from radserve.cli import versions_view
    from radserve.schema.control import AuditLog

    with control(context, url, key, cacert) as server:
        entries = server.audit(limit)
    if json:
        versions_view.json(versions_view.console(), AuditLog(entries=entries))
    else:
        versions_view.audit(versions_view.console(), entries)


def _agree(todo: tuple[Change, ...], *, yes: bool) -> None:
    """Ask before something is unregistered; where nobody can be asked, refuse."""
    from radserve.errors import InvalidCallError

    going = [f"{item.model} {item.version}" for item in todo if item.action == "unregister"]
    if not going or yes:
        return
    if not sys.stdin.isatty():
        raise InvalidCallError(f"{', '.join(going)} would be unregistered, and nobody is here to agree; add --yes.")
    typer.confirm(f"Unregister {', '.join(going)}?", abort=True, err=True)
