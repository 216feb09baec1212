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
    out: Annotated[Path | None, typer.Option(help="Write the weights to this .safetensors file.")] = None,
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
    radserve import monai-bundle DIR NAME

    Accepts a state dict, alone or in nested dicts, whose keys may have any common prefix, as of DataParallel,
    Lightning, torch.compile or AveragedModel. Nothing in a checkpoint or a bundle is executed. Keys that do not fit are
    listed.
    """
    if source == BUNDLE or ":" in source:
        if out is not None or install or original:
            raise typer.BadParameter("--out, --install and --original are for the weights of an existing model.")
        if source == BUNDLE:
            _import_bundle(Path(target), name, answers, reading, module, archives, approximate=approximate)
            return
        if name is not None:
            raise typer.BadParameter(f"{name}: unexpected; the name of the new model is {target}.")
        draft = new_model.draft(target, source, new_model.with_defaults(answers, None), preprocessing)
        new_model.create(archives, draft, module, None if weights is None else reading.checkpoint(weights))
        return
    if name is not None or weights is not None:
        raise typer.BadParameter("An existing model takes one checkpoint: radserve import NAME CHECKPOINT.")
    _import_weights(source, Path(target), reading, out, archives, install=install, original=original)


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
        recipe = importer.convert(source.recipe, weights, out)
        typer.echo(f"{out}  sha256 {recipe.weights.sha256}")
        typer.echo(
            f"To serve these weights, use --install, or copy the file to {source.weights} and enter its sha256 "
            "in the recipe."
        )


def _import_bundle(
    folder: Path,
    name: str | None,
    answers: Answers,
    reading: Reading,
    module: list[str] | None,
    archives: Path,
    *,
    approximate: bool,
) -> None:
    if name is None:
        raise typer.BadParameter(f"Name the model: radserve import {BUNDLE} {folder} NAME.")
    from radserve.build import monai_bundle

    bundle = monai_bundle.read(folder, name, new_model.split(answers.labels), approximate=approximate)
    draft = _with_answers(bundle.draft, answers)
    new_model.create(archives, draft, module, reading.checkpoint(bundle.weights))


def _with_answers(draft: "Draft", answers: Answers) -> "Draft":
    """Replace what the bundle says by what the caller says, except for the network and its preprocessing."""
    given = {key: getattr(answers, key) for key in ("title", "positive", "trained_on", "licence")}
    scope = {key: new_model.split(getattr(answers, key)) for key in ("modality", "body_part")}
    known = {key: value for key, value in given.items() if value is not None}
    return replace(draft, **known, scope={**draft.scope, **{key: value for key, value in scope.items() if value}})
