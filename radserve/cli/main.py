"""Entry point of the command line; imports a command when it runs, so others do not need its packages."""

import logging
import sys
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from radserve.errors import RadServeError

_OWN: Final = frozenset({"gateway", "handlers", "radserve"})
"""Packages of every installation; an import error of one is a defect."""


@dataclass(frozen=True)
class Command:
    """Definition (`module:name`) of a command or a `typer.Typer`, and the extra of radserve that it needs."""

    target: str
    extra: str | None = None

    def load(self, name: str) -> Any:
        """Import the definition."""
        definition = resolve_name(self.target)
        if not isinstance(definition, typer.Typer):
            app = typer.Typer(add_completion=False)
            app.command(name)(definition)
            definition = app
        command = typer.main.get_command(definition)
        command.name = name
        return command


COMMANDS: Final = {
    "predict": Command("radserve.cli.predict:predict"),
    "score": Command("radserve.cli.score:score", "batch"),
    "serve": Command("radserve.cli.serve:serve", "serve"),
    "front": Command("radserve.cli.serve:front", "serve"),
    "pacs": Command("radserve.cli.pacs:pacs", "pacs"),
    "doctor": Command("radserve.cli.doctor:doctor", "serve"),
    "sagemaker": Command("radserve.cli.sagemaker:sagemaker", "serve"),
    "sagemaker-train": Command("radserve.cli.sagemaker_train:sagemaker_train", "train"),
    "keys": Command("radserve.cli.keys:app", "serve"),
    "init": Command("radserve.cli.new_model:init", "build"),
    "build": Command("radserve.cli.build:build", "build"),
    "choose-runtime": Command("radserve.cli.runtime:choose_runtime", "build"),
    "import": Command("radserve.cli.model_import:import_model", "build"),
    "store": Command("radserve.cli.store:app", "store"),
    "models": Command("radserve.cli.models:app"),
    "rollout": Command("radserve.cli.rollout:rollout"),
    "apply": Command("radserve.cli.apply:apply"),
    "diff": Command("radserve.cli.apply:diff"),
    "audit": Command("radserve.cli.audit:app"),
    "deploy": Command("radserve.cli.deploy:app", "deploy"),
    "data": Command("training.cli:data_app", "train"),
    "train": Command("training.cli:train", "train"),
    "tune": Command("training.cli:tune", "train"),
    "fit-detector": Command("training.cli:fit_detector", "train"),
    "evaluate": Command("training.cli:evaluate", "train"),
    "calibrate": Command("radserve.cli.calibrate:calibrate", "train"),
    "cards": Command("training.cli:cards", "train"),
}
"""Every command, in the order of `radserve --help`."""


class LazyGroup(TyperGroup):
    """Imports a command when it is used."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is Typer's
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - the signature is Typer's
        """Return a command; one whose dependencies are missing fails when it runs, so that `--help` works."""
        command = COMMANDS.get(cmd_name)
        if command is None:
            return None
        try:
            return command.load(cmd_name)
        except ModuleNotFoundError as error:
            if _is_own(error):
                raise
            return _unavailable(cmd_name, error)


def _is_own(error: ModuleNotFoundError) -> bool:
    return (error.name or "").partition(".")[0] in _OWN


def _unavailable(name: str, error: ModuleNotFoundError) -> TyperCommand:
    def fail(**_: object) -> None:
        raise error

    settings = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    help_text = f"Not available: install radserve with the extra '{COMMANDS[name].extra}'."
    return TyperCommand(name, callback=fail, help=help_text, context_settings=settings)


app = typer.Typer(
    cls=LazyGroup,
    help="Package trained X-ray and MRI models as TorchServe archives and serve them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root() -> None:
    """Package trained X-ray and MRI models as TorchServe archives and serve them."""


def main() -> None:
    """Run the command line; an error of RadServe is one line on standard error, not a traceback."""
    # Retries are logged only by commands that configure logging.
    logging.getLogger("stamina").addHandler(logging.NullHandler())
    try:
        app()
    except RadServeError as error:
        typer.echo(f"radserve: {error}", err=True)
        sys.exit(getattr(error, "code", 1))
    except ModuleNotFoundError as error:
        name = next((word for word in sys.argv[1:] if word in COMMANDS), "")
        extra = COMMANDS[name].extra if name else None
        if extra is None or _is_own(error):
            raise
        advice = f"Install the packages of this command: pip install 'radserve[{extra}]'"
        typer.echo(f"radserve: {error.name} is not installed. {advice}", err=True)
        sys.exit(1)
