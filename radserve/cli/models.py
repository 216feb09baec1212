"""`radserve models`: the versions of a running server's models, looked at and changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from radserve.cli.control_options import CaCert, Json, Key, Name, Reason, Runtime, Url, Version, control

if TYPE_CHECKING:
    from radserve.schema.control import ModelStatus

app = typer.Typer(
    help="Look at the models of a running server, and change which versions it has.", no_args_is_help=True
)

Workers = Annotated[int | None, typer.Option(min=1, help="How many; the server's default if not named.")]


@app.command("list")
def list_(
    context: typer.Context,
    *,
    json: Json = False,
    url: Url = None,
    key: Key = None,
    cacert: CaCert = None,
    runtime: Runtime = None,  # noqa: ARG001 - `control` reads it
) -> None:
    """List every version of every model."""
    from radserve.cli import versions_view

    with control(context, url, key, cacert) as server:
        found = server.overview()
    (versions_view.json if json else versions_view.overview)(versions_view.console(), found)


@app.command("show")
def show_(
    context: typer.Context,
    name: Name,
    *,
    json: Json = False,
    url: Url = None,
    key: Key = None,
    cacert: CaCert = None,
    runtime: Runtime = None,  # noqa: ARG001
) -> None:
    """Show a model's versions: workers, share, requests, errors, latency, checksums; and its rollout."""
    from radserve.cli import parse

    name = parse.name(name)
    with control(context, url, key, cacert) as server:
        _model(server.model(name), json=json)


@app.command()
def register(
    context: typer.Context,
    name: Name,
    version: Version,
    *,
    workers: Workers = None,
    reason: Reason = None,
    json: Json = False,
    url: Url = None,
    key: Key = None,
    cacert: CaCert = None,
    runtime: Runtime = None,  # noqa: ARG001
) -> None:
    """Have a version verified and started; it gets no requests yet, but those that name it."""
    from radserve.cli import parse, versions_view

    name, version = parse.name(name), parse.version(version)
    with (
        control(context, url, key, cacert) as server,
        versions_view.waiting(f"{name} {version} is verified and started"),
    ):
        made = server.register(name, version, workers, reason)
    if json:
        versions_view.json(versions_view.console(), made)
        return
    versions_view.version(versions_view.console(), name, made, "is registered")
    typer.echo(
        f"'radserve rollout {name} {version}' gives it requests step by step, 'radserve models promote' all.", err=True
    )


@app.command()
def scale(
    context: typer.Context,
    name: Name,
    version: Version,
    workers: Annotated[int, typer.Argument(min=1, help="How many it shall have.")],
    *,
    reason: Reason = None,
    json: Json = False,
    url: Url = None,
    key: Key = None,
    cacert: CaCert = None,
    runtime: Runtime = None,  # noqa: ARG001
) -> None:
    """Give a version more workers, or fewer."""
    from radserve.cli import parse, versions_view

    name, version = parse.name(name), parse.version(version)
    with (
        control(context, url, key, cacert) as server,
        versions_view.waiting(f"{name} {version} gets {workers} workers"),
    ):
        made = server.scale(name, version, workers, reason)
    if json:
        versions_view.json(versions_view.console(), made)
    else:
        versions_view.version(versions_view.console(), name, made, "is scaled")


@app.command()
def promote(
    context: typer.Context,
    name: Name,
    version: Version,
    *,
    reason: Reason = None,
    json: Json = False,
    url: Url = None,
    key: Key = None,
    cacert: CaCert = None,
    runtime: Runtime = None,  # noqa: ARG001
) -> None:
    """Give a version all requests, at once."""
    from radserve.cli import parse

    name, version = parse.name(name), parse.version(version)
    with control(context, url, key, cacert) as server:
        _model(server.promote(name, version, reason), json=json)


@app.command()
def rollback(
    context: typer.Context,
    name: Name,
    *,
    reason: Reason = None,
    json: Json = False,
    url: Url = None,
    key: Key = None,
    cacert: CaCert = None,
    runtime: Runtime = None,  # noqa: ARG001
) -> None:
    """Give all requests back to the version before; a rollout that runs is given up."""
    from radserve.cli import parse

    name = parse.name(name)
    with control(context, url, key, cacert) as server:
        _model(server.rollback(name, reason), json=json)


@app.command()
def unregister(
    context: typer.Context,
    name: Name,
    version: Version,
    *,
    force: Annotated[bool, typer.Option("--force", help="Also one that has a share of the requests.")] = False,
    reason: Reason = None,
    json: Json = False,
    url: Url = None,
    key: Key = None,
    cacert: CaCert = None,
    runtime: Runtime = None,  # noqa: ARG001
) -> None:
    """Stop serving a version; refused while it has a share or a rollout needs it."""
    from json import dumps

    from radserve.cli import parse

    name, version = parse.name(name), parse.version(version)
    with control(context, url, key, cacert) as server:
        server.unregister(name, version, reason, force=force)
    if json:
        typer.echo(dumps({"name": name, "version": version, "state": "unregistered"}, indent=2))
    else:
        typer.echo(f"{name} {version} is unregistered.")


@app.command()
def export(
    context: typer.Context,
    *,
    json: Json = False,
    url: Url = None,
    key: Key = None,
    cacert: CaCert = None,
    runtime: Runtime = None,  # noqa: ARG001
) -> None:
    """Write what the server has as deployment.yaml, which 'radserve apply' reads."""
    from radserve.versions import deployment_spec

    with control(context, url, key, cacert) as server:
        have = server.deployment()
    text = have.model_dump_json(indent=2, exclude_none=True) if json else deployment_spec.to_yaml(have)
    typer.echo(text, nl=json)


def _model(found: ModelStatus, *, json: bool) -> None:
    from radserve.cli import versions_view

    (versions_view.json if json else versions_view.model)(versions_view.console(), found)
