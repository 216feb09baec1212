"""`radserve models`: show and change the versions of a running server's models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from radserve.cli.control_options import Connect, Json, Name, Reason, Version, with_connection

if TYPE_CHECKING:
    from radserve.schema.control import ModelStatus, VersionStatus

app = typer.Typer(help="Show and change the model versions of a running server.", no_args_is_help=True)


@app.command("list")
@with_connection
def list_(connect: Connect, *, json: Json = False) -> None:
    """List every version of every model."""
    from radserve.cli import versions_view

    with connect() as server:
        status = server.overview()
    (versions_view.json if json else versions_view.overview)(versions_view.console(), status)


@app.command("show")
@with_connection
def show_(connect: Connect, name: Name, *, json: Json = False) -> None:
    """Show a model's versions: workers, share, requests, errors, latency, checksums; and its rollout."""
    with connect() as server:
        _print_model(server.model(name), json=json)


@app.command()
@with_connection
def register(
    connect: Connect,
    name: Name,
    version: Version,
    *,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of workers. Default: that of the current version.")
    ] = None,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Verify and start a version. It receives only requests that name it."""
    from radserve.cli import versions_view

    with connect() as server, versions_view.waiting(f"Registering {name} {version}"):
        status = server.register(name, version, workers, reason)
    _print_version(name, status, "registered", json=json)
    if not json:
        typer.echo(
            f"'radserve rollout {name} {version}' sends it requests in steps, 'radserve models promote' all at once.",
            err=True,
        )


@app.command()
@with_connection
def scale(
    connect: Connect,
    name: Name,
    version: Version,
    workers: Annotated[int, typer.Argument(min=1, help="New number of workers.")],
    *,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Change the number of workers of a version."""
    from radserve.cli import versions_view

    with connect() as server, versions_view.waiting(f"Scaling {name} {version} to {workers} workers"):
        status = server.scale(name, version, workers, reason)
    _print_version(name, status, "scaled", json=json)


@app.command()
@with_connection
def promote(connect: Connect, name: Name, version: Version, *, reason: Reason = None, json: Json = False) -> None:
    """Send all requests to a version, without steps."""
    with connect() as server:
        _print_model(server.promote(name, version, reason), json=json)


@app.command()
@with_connection
def rollback(connect: Connect, name: Name, *, reason: Reason = None, json: Json = False) -> None:
    """Send all requests to the previous version; aborts a rollout in progress."""
    with connect() as server:
        _print_model(server.rollback(name, reason), json=json)


@app.command()
@with_connection
def unregister(
    connect: Connect,
    name: Name,
    version: Version,
    *,
    force: Annotated[bool, typer.Option("--force", help="Also unregister the only version of a model.")] = False,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Stop serving a version; rejected while it receives requests or a rollout needs it."""
    from json import dumps

    with connect() as server:
        server.unregister(name, version, reason, force=force)
    document = {"name": name, "version": version, "state": "unregistered"}
    typer.echo(dumps(document, indent=2) if json else f"{name} {version} unregistered.")


@app.command()
@with_connection
def export(connect: Connect, *, json: Json = False) -> None:
    """Print the deployment of the server as a file for 'radserve apply'."""
    with connect() as server:
        deployment = server.deployment()
    if json:
        typer.echo(deployment.model_dump_json(indent=2, exclude_none=True))
        return
    from radserve.versions.deployment_file import to_yaml

    typer.echo(to_yaml(deployment), nl=False)


def _print_model(status: ModelStatus, *, json: bool) -> None:
    from radserve.cli import versions_view

    (versions_view.json if json else versions_view.model)(versions_view.console(), status)


def _print_version(name: str, status: VersionStatus, change: str, *, json: bool) -> None:
    from radserve.cli import versions_view

    if json:
        versions_view.json(versions_view.console(), status)
    else:
        versions_view.version(versions_view.console(), name, status, change)
