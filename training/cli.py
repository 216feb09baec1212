"""`radserve train`; registered by `radserve.cli`. Torch is imported when a run starts, not for `--help`."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer


def train(
    name: Annotated[str, typer.Argument(help="Archive to train, a folder in --archives.")],
    data: Annotated[Path, typer.Option(help="The data set, in the layout of its public download.")],
    out: Annotated[Path | None, typer.Option(help="Result folder; runs/NAME without it.")] = None,
    *,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of training.yaml's.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of training.yaml's.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last complete epoch in --out.")] = False,
    changes: Annotated[list[str] | None, typer.Option("--set", help="key=value over training.yaml.")] = None,
    install: Annotated[bool, typer.Option("--install", help="Put the result into the archive's folder.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Of torch; all cores without it.")] = None,
    archives: Annotated[Path, typer.Option(help="Folder of the archives' recipes.")] = Path("archives"),
) -> None:
    """Train a model and leave checkpoints, weights, recipe and figures in a result folder."""
    import torch

    from training.train import Options
    from training.train import train as run

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # What Lightning tells of itself, its tips among it, is not about this run.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    if threads is not None:
        torch.set_num_threads(threads)
    overrides = [*(changes or ())]
    overrides += [f"{key}={value}" for key, value in (("epochs", epochs), ("seed", seed)) if value is not None]
    command = shlex.join(["radserve", *sys.argv[1:]])
    options = Options(resume, overrides, install, sys.stderr.isatty(), command)
    run(archives / name, data, out or Path("runs") / name, options)
