"""`radserve models`: show and change the versions of a running server's models."""

from typing import Annotated

import typer

from radserve.cli import terminal, versions_view
from radserve.cli.control_options import Json, Name, Reason, Server, Version
from radserve.cli.options import with_groups

app = typer.Typer(
    help="Show and change the model versions of a running server.", no_args_is_help=True, add_completion=False
)


@app.command("list")
@with_groups
def list_(*, json: Json = False, server: Server) -> None:
    """List every version of every model."""
    with server.connect() as control:
        versions_view.show(control.overview(), versions_view.overview, json=json)


@app.command("show")
@with_groups
def show_(name: Name, *, json: Json = False, server: Server) -> None:
    """Show a model's versions: workers, share, requests, errors, latency, checksums; and its rollout."""
    with server.connect() as control:
        versions_view.show(control.model(name), versions_view.model, json=json)


@app.command()
@with_groups
def register(
    name: Name,
    version: Version,
    *,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of workers. Default: that of the current version.")
    ] = None,
    reason: Reason = None,
    json: Json = False,
    server: Server,
) -> None:
    """Verify and start a version. It receives only requests that name it."""
    with server.connect() as control, versions_view.waiting(f"Registering {name} {version}"):
        status = control.register(name, version, workers, reason)
    versions_view.show(status, versions_view.changed_version(name, "registered"), json=json)
    if not json:
        typer.echo(
            f"'radserve rollout {name} {version}' sends it requests in steps, 'radserve models promote' all at once.",
            err=True,
        )


@app.command()
@with_groups
def scale(
    name: Name,
    version: Version,
    workers: Annotated[int, typer.Argument(min=1, help="New number of workers.")],
    *,
    reason: Reason = None,
    json: Json = False,
    server: Server,
) -> None:
    """Change the number of workers of a version."""
    with server.connect() as control, versions_view.waiting(f"Scaling {name} {version} to {workers} workers"):
        status = control.scale(name, version, workers, reason)
    versions_view.show(status, versions_view.changed_version(name, "scaled"), json=json)


@app.command()
@with_groups
def promote(name: Name, version: Version, *, reason: Reason = None, json: Json = False, server: Server) -> None:
    """Send all requests to a version, without steps."""
    with server.connect() as control:
        versions_view.show(control.promote(name, version, reason), versions_view.model, json=json)


@app.command()
@with_groups
def rollback(name: Name, *, reason: Reason = None, json: Json = False, server: Server) -> None:
    """Send all requests to the previous version; aborts a rollout in progress."""
    with server.connect() as control:
        versions_view.show(control.rollback(name, reason), versions_view.model, json=json)


@app.command()
@with_groups
def release(name: Name, version: Version, *, reason: Reason = None, json: Json = False, server: Server) -> None:
    """Lift the quarantine of a version that was rolled back."""
    with server.connect() as control:
        versions_view.show(control.release(name, version, reason), versions_view.model, json=json)


@app.command()
@with_groups
def unregister(
    name: Name,
    version: Version,
    *,
    force: Annotated[bool, typer.Option("--force", help="Also unregister the only version of a model.")] = False,
    reason: Reason = None,
    json: Json = False,
    server: Server,
) -> None:
    """Stop serving a version; rejected while it receives requests or a rollout needs it."""
    with server.connect() as control:
        control.unregister(name, version, reason, force=force)
    if json:
        terminal.print_json({"name": name, "version": version, "state": "unregistered"})
    else:
        typer.echo(f"{name} {version} unregistered.")


@app.command()
@with_groups
def export(*, json: Json = False, server: Server) -> None:
    """Print the deployment of the server as a file for 'radserve apply'."""
    from radserve.versions.deployment_file import to_yaml

    with server.connect() as control:
        deployment = control.deployment()
    document = deployment.model_dump_json(indent=2, exclude_none=True) + "\n" if json else to_yaml(deployment)
    typer.echo(document, nl=False)
