"""`radserve deploy`: an environment on AWS planned, applied, looked at and taken down."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from radserve.deploy.apply import Watch
    from radserve.deploy.changeset import Change
    from radserve.deploy.cloud import Cloud
    from radserve.deploy.plan import Plan
    from radserve.deploy.settings import Settings

app = typer.Typer(help="Run RadServe on AWS: CloudFormation stacks, shown before they change.", no_args_is_help=True)

File = Annotated[
    Path, typer.Argument(help="The environment's file; radserve/deploy/templates/example.yaml explains it.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE or STACK.PARAMETER=VALUE in place of the file's; repeatable."),
]
Stack = Annotated[list[str] | None, typer.Option("--stack", help="Only this stack of the environment; repeatable.")]
Region = Annotated[str | None, typer.Option(help="Of AWS, in place of the file's.")]
Profile = Annotated[str | None, typer.Option(help="Of AWS' configuration files.")]
Yes = Annotated[bool, typer.Option("--yes", help="Ask nothing.")]


@app.command()
def plan(file: File, *, set_: Set = None, stack: Stack = None, region: Region = None, profile: Profile = None) -> None:
    """Show what would change and what of it costs money, and change nothing."""
    from radserve.cli import deploy_view
    from radserve.deploy.cloud import explained

    with explained():
        settings, cloud = _open(file, set_, region, profile)
        _planned(cloud, settings, stack, deploy_view.console())


@app.command()
def apply(
    file: File,
    *,
    set_: Set = None,
    stack: Stack = None,
    region: Region = None,
    profile: Profile = None,
    yes: Yes = False,
) -> None:
    """Make the environment what its file says, after showing what changes and asking.

    Exit codes:
    0    it is what the file says
    1    it is not; the line says why
    2    the file or an option is wrong; nothing was changed
    """
    from radserve.cli import deploy_view
    from radserve.deploy import apply as applying
    from radserve.deploy import stacks
    from radserve.deploy.cloud import explained

    out = deploy_view.console()
    with explained():
        settings, cloud = _open(file, set_, region, profile)
        plans = _planned(cloud, settings, stack, out)
        todo = [item for item in plans if item.kind != "unchanged"]
        if todo and not yes:
            typer.confirm("Do this?", abort=True)
        if not applying.apply(cloud, settings, todo, _watch(out, yes=yes)):
            raise typer.Exit(1)
        applying.protect(cloud, settings, stacks.chosen(settings, stack or ()))
    out.print("Done." if todo else "Nothing to change.")


@app.command()
def status(
    file: File,
    *,
    set_: Set = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    region: Region = None,
    profile: Profile = None,
) -> None:
    """Show the stacks that are there, how they are, and what they give."""
    from radserve.cli import deploy_view
    from radserve.deploy import state
    from radserve.deploy.cloud import explained

    with explained():
        settings, cloud = _open(file, set_, region, profile)
        found = list(state.find_all(cloud, settings.environment).values())
    if json:
        typer.echo(deploy_view.states_json(settings.environment, found))
    else:
        deploy_view.states(deploy_view.console(), settings.environment, found)


@app.command()
def destroy(
    file: File,
    *,
    set_: Set = None,
    stack: Stack = None,
    delete_data: Annotated[
        bool, typer.Option("--delete-data", help="Also buckets, images and keys, with all that is in them.")
    ] = False,
    confirm: Annotated[
        str, typer.Option(help="With --delete-data and --yes: the environment's name, in place of typing it.")
    ] = "",
    region: Region = None,
    profile: Profile = None,
    yes: Yes = False,
) -> None:
    """Take the environment down; buckets, images and keys stay unless --delete-data says otherwise."""
    from radserve.cli import deploy_view
    from radserve.deploy import destroy as destroying
    from radserve.deploy.cloud import explained

    out = deploy_view.console()
    with explained():
        settings, cloud = _open(file, set_, region, profile)
        what = destroying.doomed(cloud, settings, stack or (), data=delete_data)
        deploy_view.doomed(out, what)
        if not what.going:
            out.print("Nothing to delete.")
            return
        if not yes:
            typer.confirm("Delete this?", abort=True)
        if what.holds_data:
            _sure(settings.environment, confirm, ask=not yes)
        destroying.destroy(
            cloud, what, lambda name: out.print(f"{name}:"), lambda item: deploy_view.event(out, item), out.print
        )
    out.print("Done.")


@app.command()
def fetch(
    source: Annotated[str, typer.Argument(help="Archive store: s3://BUCKET/FOLDER.")],
    folder: Annotated[Path, typer.Argument(help="Model store, which then holds the same archives and no others.")],
    *,
    public_key: Annotated[
        str, typer.Option(envvar="RADSERVE_STORE_PUBLIC_KEY", help="File with the keys that may sign it, or env:NAME.")
    ] = "",
    region: Region = None,
    profile: Profile = None,
) -> None:
    """Copy all archives of a store into a model store: the first step of a task or host before it serves."""
    from radserve.store import open_store

    for variable, value in (("AWS_REGION", region), ("AWS_DEFAULT_REGION", region), ("AWS_PROFILE", profile)):
        if value:
            os.environ[variable] = value
    for entry in open_store(source, public_keys=public_key).mirror(folder):
        typer.echo(f"{entry.name} {entry.version}  sha256 {entry.sha256}")


def _open(file: Path, changes: list[str] | None, region: str | None, profile: str | None) -> tuple[Settings, Cloud]:
    from radserve.deploy.cloud import Cloud
    from radserve.deploy.settings import load

    settings = load(file, changes or ())
    return settings, Cloud(region or settings.region, profile)


def _planned(cloud: Cloud, settings: Settings, only: list[str] | None, out: Console) -> list[Plan]:
    from radserve.cli import deploy_view
    from radserve.deploy import plan as planning

    plans = []
    for item in planning.plan(cloud, settings, only or ()):
        deploy_view.plan(out, item)
        plans.append(item)
    deploy_view.money(out, plans)
    return plans


def _watch(out: Console, *, yes: bool) -> Watch:
    from radserve.cli import deploy_view
    from radserve.deploy.apply import Watch

    def agree(name: str, changes: Sequence[Change]) -> bool:
        deploy_view.unseen(out, name, changes)
        return yes or typer.confirm("Do this too?")

    return Watch(
        started=lambda name: out.print(f"{name}:"),
        event=lambda item: deploy_view.event(out, item),
        finished=lambda name, status: out.print(f"{name} is {status}."),
        note=lambda line: out.print(line, soft_wrap=True),
        agree=agree,
    )


def _sure(environment: str, given: str, *, ask: bool) -> None:
    """Ask a second time before data go."""
    from radserve.deploy.errors import SettingsError

    typed = given or (typer.prompt(f"Models, images and keys will be gone. Type {environment} to go on") if ask else "")
    if typed != environment:
        raise SettingsError(f"data are deleted only with the environment's name: --confirm {environment}")
