"""`radserve deploy`: plan, apply, show and destroy an environment on AWS."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from radserve.cli import deploy_view, terminal
from radserve.cli.deploy_train import train
from radserve.cli.options import argument, option, with_groups
from radserve.deploy import aws_clients, teardown
from radserve.deploy import plan as planning
from radserve.deploy.aws_clients import Cloud, readable_errors
from radserve.deploy.errors import SettingsError
from radserve.deploy.plan import Plan
from radserve.deploy.settings import Settings, load
from radserve.deploy.stack import Change
from radserve.store import open_store

app = typer.Typer(
    help="Run RadServe on AWS with CloudFormation stacks; changes are shown first.",
    no_args_is_help=True,
    add_completion=False,
)

Stack = Annotated[list[str] | None, typer.Option("--stack", help="Only this stack of the environment; repeatable.")]
Region = Annotated[str | None, typer.Option(help="AWS region; overrides the file.")]
Profile = Annotated[str | None, typer.Option(help="Profile in AWS' configuration files.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


@dataclass(frozen=True)
class Environment:
    """Arguments and options that select an environment."""

    file: Path = argument("The environment's file; radserve/deploy/example-environment.yaml is a commented example.")
    set_: list[str] | None = option(
        None, "KEY=VALUE or STACK.PARAMETER=VALUE; overrides the file; repeatable.", "--set"
    )
    region: Region = None
    profile: Profile = None

    def open(self) -> tuple[Settings, Cloud]:
        """Read the settings and connect to AWS."""
        settings = load(self.file, self.set_ or ())
        return settings, Cloud(self.region or settings.region, self.profile)


@app.command()
@with_groups
def plan(environment: Environment, *, stack: Stack = None) -> None:
    """Show what would change and what costs money, without changing anything."""
    with readable_errors():
        settings, cloud = environment.open()
        _plan(cloud, settings, stack, terminal.console())


@app.command()
@with_groups
def apply(environment: Environment, *, stack: Stack = None, yes: Yes = False) -> None:
    """Create or update the environment, after showing the changes and asking for confirmation.

    Exit codes:
    0    the environment matches its file
    1    it does not; the message says why
    2    the file or an option is invalid; nothing was changed
    """
    out = terminal.console()

    def confirm(name: str, changes: Sequence[Change]) -> bool:
        deploy_view.unplanned(out, name, changes)
        return yes or typer.confirm("Apply these changes too?")

    with readable_errors():
        settings, cloud = environment.open()
        plans = [item for item in _plan(cloud, settings, stack, out) if item.action != "unchanged"]
        planning.require(plans)
        if plans and not yes:
            typer.confirm("Apply these changes?", abort=True)
        deploy_view.progress(out, planning.apply(cloud, settings, plans, confirm))
        planning.protect(cloud, settings, settings.stacks(stack or ()))
    out.print("Done." if plans else "Nothing to change.")


@app.command()
@with_groups
def status(
    environment: Environment, *, json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False
) -> None:
    """Show the existing stacks, their status and their outputs."""
    with readable_errors():
        settings, cloud = environment.open()
        stacks = list(planning.find_stacks(cloud, settings).values())
    if json:
        terminal.print_json(deploy_view.stacks_json(settings.environment, stacks))
    else:
        deploy_view.stacks(terminal.console(), settings.environment, stacks)


@app.command()
@with_groups
def destroy(
    environment: Environment,
    *,
    stack: Stack = None,
    delete_data: Annotated[
        bool, typer.Option("--delete-data", help="Also delete buckets, images and keys with their contents.")
    ] = False,
    confirm: Annotated[
        str, typer.Option(help="The environment's name; required for --delete-data together with --yes.")
    ] = "",
    yes: Yes = False,
) -> None:
    """Delete the environment; buckets, images and keys are kept unless --delete-data is given."""
    out = terminal.console()
    with readable_errors():
        settings, cloud = environment.open()
        planned = teardown.plan(cloud, settings, stack or (), data=delete_data)
        deploy_view.teardown(out, planned)
        if not planned.deleted:
            out.print("Nothing to delete.")
            return
        if not yes:
            typer.confirm("Delete these stacks?", abort=True)
        if planned.deletes_data:
            name = settings.environment
            if not yes and not confirm:
                confirm = typer.prompt(f"Models, images and keys will be deleted. Type {name} to continue")
            if confirm != name:
                raise SettingsError(f"Deleting data requires the environment's name: --confirm {name}")
        deploy_view.progress(out, teardown.destroy(cloud, planned))
    out.print("Done.")


@app.command()
def fetch(
    source: Annotated[str, typer.Argument(help="Archive store: s3://BUCKET/FOLDER.")],
    folder: Annotated[Path, typer.Argument(help="Model store, which then holds the same archives and no others.")],
    *,
    public_key: Annotated[
        str, typer.Option(envvar="RADSERVE_STORE_PUBLIC_KEY", help="File with the keys that may sign it, or env:NAME.")
    ] = "",
    region: Annotated[
        str | None, typer.Option(help="The bucket's AWS region; overrides AWS_REGION and the profile's.")
    ] = None,
    profile: Profile = None,
) -> None:
    """Copy all archives of a store into a model store: the first step of a task or host before it serves."""
    aws_clients.select(region, profile)
    for entry in open_store(source, public_keys=public_key).mirror(folder):
        typer.echo(f"{entry.name} {entry.version}  sha256 {entry.sha256}")


app.command()(train)


def _plan(cloud: Cloud, settings: Settings, only: list[str] | None, out: Console) -> list[Plan]:
    plans = []
    for item in planning.plan(cloud, settings, only or ()):
        deploy_view.plan(out, item)
        plans.append(item)
    deploy_view.costs(out, plans)
    return plans
