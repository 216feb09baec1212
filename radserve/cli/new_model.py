"""`radserve init`, and the options that it shares with `radserve import`."""

import json
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from radserve.build.source import new_folder
from radserve.cli.options import option, with_groups
from radserve.errors import InvalidCallError
from training.cli import Module, allow

if TYPE_CHECKING:
    from radserve.build.new_model import Draft

Archives = Annotated[Path, typer.Option(help="Folder of the recipes.")]
ARCHIVES: Final = Path("archives")


@dataclass(frozen=True)
class Answers:
    """Description of a new model: options, which `radserve init` asks for on a terminal."""

    title: str | None = option(None, "One line that says what the model detects, on which images.")
    labels: str | None = option(None, "Labels in the order of the network's outputs: a,b.")
    task: str | None = option(None, "classification, or segmentation (labels background,NAME).")
    color: str | None = option(None, "gray or rgb.")
    height: int | None = option(None, "Height of the network's input.", min=1)
    width: int | None = option(None, "Width of the network's input.", min=1)
    positive: str | None = option(None, "Of two labels, the one that the threshold is for.")
    modality: str | None = option(None, "Modalities of DICOM that the model accepts: CR,DX.")
    body_part: str | None = option(None, "Parts of the body that the model accepts: chest.")
    trained_on: str | None = option(None, "Data that the weights were trained on.")
    licence: str | None = option(None, "Licence of the weights.")


@dataclass(frozen=True)
class Preprocessing:
    """Options of the network's input that have a default."""

    channels: int | None = option(None, "1 or 3. Default: 3; a gray image is repeated.")
    resize: str = option("bilinear", "bilinear or bicubic.")
    fit: str = option("stretch", "stretch, or pad to keep the aspect ratio.")
    mean: str | None = option(None, "Mean of each channel, on the scale [0, 1]: 0.485,0.456,0.406. Default: 0.")
    std: str | None = option(None, "Standard deviation of each channel. Default: 1.")
    activation: str | None = option(None, "softmax, or sigmoid of one logit for the second of two labels.")
    network_args: str | None = option(None, "Arguments of the network, as JSON.")


_QUESTIONS: Final[Mapping[str, tuple[str, str]]] = {
    "title": ("What does the model detect, on which images", ""),
    "task": ("Task: classification or segmentation", "classification"),
    "labels": ("Labels, in the order of the network's outputs: a,b", ""),
    "color": ("Colour of the images: gray or rgb", "gray"),
    "height": ("Height of the network's input", "224"),
    "width": ("Width of the network's input", "224"),
    "positive": ("Positive label (empty: the most probable label, without a threshold)", ""),
    "modality": ("Modalities of DICOM, like CR,DX (empty: unknown)", ""),
    "body_part": ("Part of the body, like chest (empty: unknown)", ""),
    "trained_on": ("Training data (empty: unknown)", ""),
    "licence": ("Licence of the weights (empty: unknown)", ""),
}
"""Option -> question and default; an empty answer leaves the value unknown."""


@with_groups
def init(
    name: Annotated[str, typer.Argument(help="Name of the new model: small letters, digits and hyphens.")],
    *,
    network: Annotated[
        str, typer.Option(help="Network: torchvision:NAME, monai:CLASS, module:..., or one of this project.")
    ] = "torchvision:resnet18",
    data: Annotated[
        str | None, typer.Option(help="Data set of 'radserve train': chest_xray, brain_tumor, lgg_mri or cifar10.")
    ] = None,
    answers: Answers,
    preprocessing: Preprocessing,
    module: Module = None,
    archives: Archives = ARCHIVES,
) -> None:
    """Create the folder of a new model: recipe, settings, and a synthetic sample.

    On a terminal, the command asks for what is not given as an option. What stays unknown becomes the recipe's
    `warning`, which every prediction repeats.
    """
    new_folder(archives, name)  # before the questions
    ask: Callable[..., Any] | None = typer.prompt if sys.stdin.isatty() else None
    answered = with_defaults(answers, ask)
    described = draft(name, network, answered, preprocessing, data)
    create(archives, described, module)


def with_defaults(answers: Answers, ask: Callable[..., Any] | None) -> Answers:
    """Fill in what is not given, by asking, or without `ask` with the defaults."""
    values: dict[str, Any] = {}
    for key, (question, default) in _QUESTIONS.items():
        if getattr(answers, key) is None:
            value = ask(question, default=default, show_default=bool(default)) if ask else default
            values[key] = (_side(key, value) if key in ("height", "width") else value) or None
    answered = replace(answers, **values)
    if answered.labels is None:
        raise InvalidCallError("The labels are unknown. Give them in the order of the network's outputs: --labels a,b.")
    return answered


def draft(name: str, network: str, answers: Answers, preprocessing: Preprocessing, data: str | None = None) -> "Draft":
    """Return the description of a new model; values are validated as a recipe later."""
    from radserve.build.new_model import Draft

    scope = {key: split(getattr(answers, key)) for key in ("modality", "body_part") if getattr(answers, key)}
    return Draft(
        name=name,
        network=network,
        labels=split(answers.labels),
        input=_input(answers, preprocessing),
        task=answers.task or "classification",
        network_args=_arguments(preprocessing.network_args),
        title=answers.title,
        positive=answers.positive,
        activation=preprocessing.activation,
        scope=scope,
        trained_on=answers.trained_on,
        licence=answers.licence,
        data=data,
    )


def create(archives: Path, described: "Draft", modules: list[str] | None, weights: Any = None) -> None:
    """Write the folder of a new model, and say what to do next."""
    from radserve.build import new_model

    allow(modules)
    recipe = new_model.create(archives, described, shlex.join(["radserve", *sys.argv[1:]]), weights)
    typer.echo(f"{archives / recipe.name}: created.")
    if recipe.warning:
        typer.echo(f"Warning of every prediction: {recipe.warning} Complete archive.yaml, then remove the warning.")
    option = " --untrained" if recipe.weights.sha256 is None else ""
    typer.echo(f"Build it: radserve build {recipe.name}{option}")
    if recipe.weights.sha256 is None:
        typer.echo(f"Give it weights: radserve import {recipe.name} CHECKPOINT --install")


def _input(answers: Answers, preprocessing: Preprocessing) -> dict[str, Any]:
    given = {key: _numbers(key, getattr(preprocessing, key)) for key in ("mean", "std")}
    return {
        "color": answers.color,
        "channels": preprocessing.channels or 3,
        "height": answers.height,
        "width": answers.width,
        "resize": preprocessing.resize,
        "fit": preprocessing.fit,
    } | {key: value for key, value in given.items() if value is not None}


def _side(key: str, text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise InvalidCallError(f"--{key.replace('_', '-')} has value {text!r}; give a number of pixels, like 224.")
    return int(text)


def split(text: str | None) -> tuple[str, ...]:
    """Split a list at its commas."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _numbers(key: str, text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(map(float, text.split(",")))
    except ValueError as error:
        raise InvalidCallError(f"--{key} has value {text!r}; give numbers, separated by commas.") from error


def _arguments(text: str | None) -> dict[str, Any]:
    try:
        values = json.loads(text or "{}")
    except ValueError as error:
        raise InvalidCallError(f"--network-args has value {text!r}; give a JSON object. ({error})") from error
    if not isinstance(values, dict):
        raise InvalidCallError(f"--network-args has value {text!r}; give a JSON object.")
    return values
