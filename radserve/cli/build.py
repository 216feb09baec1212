"""`radserve build` and `radserve import`."""

from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from radserve.build import builder
from radserve.build.source import find_sources
from radserve.cli.serve import MODEL_STORE, Store
from radserve.errors import MissingWeightsError, RadServeError

Archives = Annotated[Path, typer.Option(help="Folder of the recipes.")]
ARCHIVES: Final = Path("archives")


def build(
    names: Annotated[list[str] | None, typer.Argument(help="Models to build. Default: all.")] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Build every model (the default).")] = False,
    archives: Archives = ARCHIVES,
    model_store: Store = MODEL_STORE,
    missing: Annotated[
        bool, typer.Option("--missing", help="Build only archives that are missing or outdated.")
    ] = False,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="Use random weights for models whose weights are not shipped.")
    ] = False,
) -> None:
    """Build archives from their recipes into the model store.

    A model whose weights are not shipped is skipped with a line that says how to get them; naming such a model is an
    error. With --untrained it is built as version 0.0.0 with random weights, and each of its responses has a warning.

    Exit codes:
    0    every archive was built
    1    at least one archive failed; its line says why
    """
    if everything and names:
        raise typer.BadParameter("--all and model names exclude each other.")
    failed = False
    for source in find_sources(archives, names or (), untrained=untrained):
        if missing and builder.is_current(source, model_store):
            continue
        try:
            entry = builder.build(source, model_store)
        except RadServeError as error:
            failed |= bool(names) or not isinstance(error, MissingWeightsError)
            typer.echo(f"radserve: {error}", err=True)
        else:
            typer.echo(f"{entry.name} {entry.version}  {entry.size / 1e6:.1f} MB  sha256 {entry.sha256}")
    if failed:
        raise typer.Exit(1)


def import_weights(
    name: Annotated[str, typer.Argument(help="Model whose network the weights belong to.")],
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint: a file of torch.save, or safetensors.")],
    *,
    out: Annotated[Path | None, typer.Option(help="Write the weights to this .safetensors file.")] = None,
    install: Annotated[
        bool, typer.Option("--install", help="Install the weights, the recipe and the card in the model's folder.")
    ] = False,
    key: Annotated[
        str | None, typer.Option(help="Key of the weights in a checkpoint that has several, like state_dict_ema.")
    ] = None,
    precision: Annotated[
        Literal["fp16", "fp32"],
        typer.Option(help="fp16 halves the file; fp32 keeps every digit of the weights."),
    ] = "fp16",
    original: Annotated[
        bool, typer.Option("--original", help="With --install: preprocess as the original system did (original.yaml).")
    ] = False,
    archives: Archives = ARCHIVES,
) -> None:
    """Import the weights of a checkpoint.

    Accepts a state dict, alone or in nested dicts, whose keys may have any common prefix, as of DataParallel,
    Lightning, torch.compile or AveragedModel. Nothing in the file is executed. Keys that do not fit are listed.
    """
    from radserve.build import import_weights as importer  # loads torch

    if (out is None) == (not install):
        raise typer.BadParameter("Name a destination: either --out FILE or --install.")
    if original and not install:
        raise typer.BadParameter("--original changes the recipe, so it requires --install.")
    (source,) = find_sources(archives, [name])
    weights = importer.Checkpoint(checkpoint, key, precision == "fp16")
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
