"""Archives of the repository's models, built once in a run, by the test process that needs one first."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock

from radserve.build import builder, model_store
from radserve.build.source import Source

Provide = Callable[[Path, Sequence[Source]], None]
"""Adds the archives of models to a model store. They are links: do not change the files."""


def provide(built: Path, store: Path, sources: Sequence[Source]) -> None:
    """Build the archives that `built` lacks, and link them into a model store."""
    for folder in (built, store):
        folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        own = built / f"{source.recipe.name}-{source.version}"
        with FileLock(f"{own}.lock"):
            if not builder.is_current(source, own):
                builder.build(source, own)
        (entry,) = model_store.read(own).archives
        (store / entry.file).unlink(missing_ok=True)
        os.link(own / entry.file, store / entry.file)
        model_store.write(store, model_store.read(store).put(entry))
