"""`radserve choose-runtime`."""

from typing import Annotated

import typer

from radserve.build.source import find_sources
from radserve.cli.new_model import ARCHIVES, Archives
from training import recipe_files
from training.cards import files
from training.cli import Module, allow


def choose_runtime(
    names: Annotated[list[str], typer.Argument(help="Models, folders in --archives.")],
    *,
    install: Annotated[bool, typer.Option("--install", help="Write the choice to the recipe and the card.")] = False,
    archives: Archives = ARCHIVES,
    module: Module = None,
) -> None:
    """Measure on which engine a model is fastest on a CPU: torch or ONNX Runtime.

    Both run the same weights on one thread and must give equal outputs. With --install, the recipe names the faster
    engine, with the figures, and the next build adds what it needs. CUDA devices and explanations always use torch.
    """
    allow(module)
    from radserve.build import runtime

    for source in find_sources(archives, names):
        chosen = runtime.choose(source)
        for engine, (one, eight) in chosen.milliseconds.items():
            mark = "  chosen" if engine == chosen.engine else ""
            typer.echo(f"{source.recipe.name}  {engine:<12}  batch of 1: {one} ms, of 8: {eight} ms{mark}")
        if install:
            recipe = source.recipe.model_copy(update={"runtime": chosen})
            header = recipe_files.HEADER.format(name=recipe.name)
            recipe_files.write(recipe, source.folder / "archive.yaml", header)
            (source.folder / "CARD.md").write_text(files.render(source.folder), encoding="utf-8")
