"""`radserve build`."""

from collections.abc import Sequence
from typing import Annotated

import typer

from radserve.build import builder
from radserve.build.source import Source, find_sources
from radserve.cli.new_model import ARCHIVES, Archives
from radserve.cli.serve import MODEL_STORE, Store
from radserve.cli.terminal import counted
from radserve.errors import MissingWeightsError, RadServeError
from training.cli import Module, allow


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
    module: Module = None,
) -> None:
    """Build archives from their recipes into the model store.

    Models whose weights are not shipped are skipped, with one line that names them, except with --missing; naming such
    a model is an error, which says how to get the weights. With --untrained it is built as version 0.0.0 with random
    weights, and each of its responses has a warning.

    Exit codes:
    0    every archive was built
    1    at least one archive failed; its line says why
    """
    if everything and names:
        raise typer.BadParameter("--all and model names exclude each other.")
    allow(module)
    failed = False
    skipped: list[str] = []
    sources = find_sources(archives, names or (), untrained=untrained)
    if missing:
        sources = [source for source in sources if not builder.is_current(source, model_store)]
    _announce(sources)
    for source in sources:
        try:
            entry = builder.build(source, model_store)
        except RadServeError as error:
            if isinstance(error, MissingWeightsError) and not names:
                skipped.append(source.recipe.name)
                continue
            failed = True
            typer.echo(f"radserve: {error}", err=True)
        else:
            typer.echo(f"{entry.name} {entry.version}  {entry.size / 1e6:.1f} MB  sha256 {entry.sha256}")
    if skipped and not missing:
        typer.echo(
            f"radserve: {len(skipped)} of {len(sources)} models have no weights in this checkout: "
            f"{', '.join(skipped)}. 'radserve build NAME' says how to get them.",
            err=True,
        )
    if failed:
        raise typer.Exit(1)


def _announce(sources: Sequence[Source]) -> None:
    """Announce the archives to build, each of which takes about 20 s of CPU time."""
    pending = [source.recipe.name for source in sources if source.untrained or not source.lacks_weights]
    if pending:
        typer.echo(f"Building {counted(len(pending), 'archive')}, about 20 s each: {', '.join(pending)}", err=True)
