"""`radserve import`."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from radserve.build.source import find_sources
from radserve.cli import new_model
from radserve.cli.new_model import ARCHIVES, Answers, Archives, Preprocessing
from radserve.cli.options import option, with_groups
from training.cli import Module

if TYPE_CHECKING:
    from radserve.build.import_weights import Checkpoint
    from radserve.build.new_model import Draft

BUNDLE: Final = "monai-bundle"
_ALWAYS: Final = frozenset({"source", "target", "key", "precision", "archives"})
_DESCRIBING: Final = frozenset(
    {"title", "labels", "positive", "modality", "body_part", "trained_on", "licence", "activation"}
)
_INPUT: Final = frozenset({"color", "height", "width", "channels", "resize", "fit", "mean", "std"})
_OF_BUNDLE: Final = _ALWAYS | _DESCRIBING | {"name", "approximate"}
_OF_NETWORK: Final = _ALWAYS | _DESCRIBING | _INPUT | {"task", "network_args", "weights", "module"}
_OF_MODEL: Final = _ALWAYS | {"out", "install", "original"}


@dataclass(frozen=True)
class Reading:
    """How to read a checkpoint."""

    key: str | None = option(None, "Key of the weights in a checkpoint that has several, like state_dict_ema.")
    precision: Literal["fp16", "fp32"] = option("fp16", "fp16 halves the file; fp32 keeps every digit of the weights.")

    def checkpoint(self, path: Path) -> "Checkpoint":
        """Return the description of a checkpoint."""
        from radserve.build.import_weights import Checkpoint

        return Checkpoint(path, self.key, self.precision == "fp16")


@with_groups
def import_model(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="Model whose network the weights belong to; or torchvision:NAME, monai:CLASS or "
            f"module:PACKAGE.MODULE:CLASS for a new model; or {BUNDLE}."
        ),
    ],
    target: Annotated[
        str, typer.Argument(help="Checkpoint of a model; name of a new model; or folder of a bundle.", metavar="TARGET")
    ],
    name: Annotated[str | None, typer.Argument(help="Name of the model from a bundle.")] = None,
    *,
    out: Annotated[Path | None, typer.Option(help="Write the weights to this new .safetensors file.")] = None,
    install: Annotated[
        bool, typer.Option("--install", help="Install the weights, the recipe and the card in the model's folder.")
    ] = False,
    original: Annotated[
        bool, typer.Option("--original", help="With --install: preprocess as the original system did (original.yaml).")
    ] = False,
    reading: Reading,
    weights: Annotated[Path | None, typer.Option(help="Checkpoint of a new model. Default: none.")] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Accept another resampling than the bundle's, with a warning.")
    ] = False,
    answers: Answers,
    preprocessing: Preprocessing,
    module: Module = None,
    archives: Archives = ARCHIVES,
) -> None:
    """Import weights into a model, or create a model from a network of torchvision or MONAI or from a MONAI bundle.

    radserve import NAME CHECKPOINT --install
    radserve import torchvision:resnet18 NAME --labels a,b --color gray --height 224 --width 224 --weights CHECKPOINT
    radserve import monai-bundle DIR NAME --approximate

    Accepts a state dict, alone or in nested dicts, whose keys may have any common prefix, as of DataParallel,
    Lightning, torch.compile or AveragedModel. Nothing in a checkpoint or a bundle is executed. Keys that do not fit are
    listed.
    """
    if source == BUNDLE or ":" in source:
        if source == BUNDLE:
            _reject_unused(context, _OF_BUNDLE, "a bundle")
            activation = preprocessing.activation
            _import_bundle(Path(target), name, answers, activation, reading, archives, approximate=approximate)
            return
        _reject_unused(
            context, _OF_NETWORK if weights else _OF_NETWORK - {"key", "precision"}, "a network of a library"
        )
        missing = [f"--{key}" for key in ("color", "height", "width") if getattr(answers, key) is None]
        if missing:
            raise typer.BadParameter(f"{', '.join(missing)}: missing. The input of the network is not guessed.")
        draft = new_model.draft(target, source, new_model.with_defaults(answers, None), preprocessing)
        new_model.create(archives, draft, module, None if weights is None else reading.checkpoint(weights))
        return
    _reject_unused(context, _OF_MODEL, "the weights of an existing model: radserve import NAME CHECKPOINT")
    _import_weights(source, Path(target), reading, out, archives, install=install, original=original)


def _reject_unused(context: typer.Context, used: frozenset[str], source: str) -> None:
    """Reject what the caller gave, on the command line, and would be ignored."""
    for parameter in context.command.params:
        name = str(parameter.name)
        source_of_value = context.get_parameter_source(name)
        if name not in used and source_of_value is not None and source_of_value.name == "COMMANDLINE":
            raise typer.BadParameter(f"{parameter.opts[0]}: not used with {source}. Omit it.")


def _import_weights(
    name: str, checkpoint: Path, reading: Reading, out: Path | None, archives: Path, *, install: bool, original: bool
) -> None:
    if (out is None) == (not install):
        raise typer.BadParameter("Name a destination: either --out FILE or --install.")
    if original and not install:
        raise typer.BadParameter("--original changes the recipe, so it requires --install.")
    from radserve.build import import_weights as importer  # loads torch

    (source,) = find_sources(archives, [name])
    weights = reading.checkpoint(checkpoint)
    if out is None:
        recipe = importer.install(source.folder, weights, original=original)
        typer.echo(f"{source.weights}  sha256 {recipe.weights.sha256}")
        typer.echo(f"{name} is now version {recipe.version}. Build it: radserve build {name}")
    else:
        recipe = importer.convert(source.recipe, weights, out, new=True)
        typer.echo(f"{out}  sha256 {recipe.weights.sha256}")
        typer.echo(
            f"To serve these weights, use --install, or copy the file to {source.weights} and enter its sha256 "
            "in the recipe."
        )


def _import_bundle(
    folder: Path,
    name: str | None,
    answers: Answers,
    activation: str | None,
    reading: Reading,
    archives: Path,
    *,
    approximate: bool,
) -> None:
    if name is None:
        raise typer.BadParameter(f"Name the model: radserve import {BUNDLE} {folder} NAME.")
    from radserve.build import monai_bundle

    labels = new_model.split(answers.labels)
    bundle = monai_bundle.read(folder, name, labels, activation, approximate=approximate)
    positive = bundle.draft.positive
    if positive is not None and answers.positive not in (None, positive):
        raise typer.BadParameter(f"--positive: the bundle's threshold is for {positive}. Omit it.")
    draft = _with_answers(bundle.draft, answers)
    new_model.create(archives, draft, None, reading.checkpoint(bundle.weights))


def _with_answers(draft: "Draft", answers: Answers) -> "Draft":
    """Replace what the bundle says by what the caller says, except for the network and its preprocessing."""
    given = {key: getattr(answers, key) for key in ("title", "positive", "trained_on", "licence")}
    scope = {key: new_model.split(getattr(answers, key)) for key in ("modality", "body_part")}
    known = {key: value for key, value in given.items() if value is not None}
    return replace(draft, **known, scope={**draft.scope, **{key: value for key, value in scope.items() if value}})
