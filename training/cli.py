"""`radserve train`, `tune`, `evaluate` and `data`; registered by `radserve.cli.main`.

Torch is imported when a run starts, not for `--help`.
"""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

Name = Annotated[str, typer.Argument(help="Archive, a folder in --archives.")]
Data = Annotated[Path, typer.Option(help="The data set, in the layout of its public download.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Instead of training.yaml's.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Instead of training.yaml's.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="key=value over training.yaml.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Of torch; all cores without it.")]
Archives = Annotated[Path, typer.Option(help="Folder of the archives' recipes.")]
Tracker = Annotated[
    Literal["tensorboard", "wandb", "mlflow", "none"],
    typer.Option(help="Where curves go, below --out; MLFLOW_TRACKING_URI sends them elsewhere."),
]
Online = Annotated[bool, typer.Option("--online", help="Let Weights & Biases send; it needs a login.")]
Install = Annotated[bool, typer.Option("--install", help="Put the result into the archive's folder.")]

data_app = typer.Typer(help="Look at data sets.", no_args_is_help=True)


def train(
    name: Name,
    data: Data,
    out: Annotated[Path | None, typer.Option(help="Result folder; runs/NAME without it.")] = None,
    *,
    epochs: Epochs = None,
    seed: Seed = None,
    changes: Changes = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last complete epoch in --out.")] = False,
    start: Annotated[
        Path | None, typer.Option("--from", help="Begin with the weights of this released run, or archive's folder.")
    ] = None,
    tracker: Tracker = "tensorboard",
    online: Online = False,
    install: Install = False,
    threads: Threads = None,
    archives: Archives = Path("archives"),
) -> None:
    """Train a model and leave checkpoints, weights, recipe, figures and card in a result folder."""
    _prepare(threads)
    from training.train import Options
    from training.train import train as run

    options = Options(
        resume, _overrides(changes, epochs, seed), install, sys.stderr.isatty(), start, tracker, online, _command()
    )
    run(archives / name, data, out or Path("runs") / name, options)


def tune(
    name: Name,
    data: Data,
    out: Annotated[Path | None, typer.Option(help="Result folder; runs/NAME-study without it.")] = None,
    *,
    trials: Annotated[int, typer.Option(min=1, help="Trials of this process.")] = 20,
    storage: Annotated[
        str | None, typer.Option(help="Optuna's storage URL, shared by workers; sqlite below --out without it.")
    ] = None,
    epochs: Epochs = None,
    seed: Seed = None,
    changes: Changes = None,
    tracker: Tracker = "tensorboard",
    online: Online = False,
    install: Install = False,
    threads: Threads = None,
    archives: Archives = Path("archives"),
) -> None:
    """Search for better training settings; the study is resumed, and shared, by whoever names its storage.

    The search space is the key `tune` of the archive's training.yaml.
    """
    _prepare(threads)
    from training.tune import Options
    from training.tune import tune as run

    options = Options(trials, storage, _overrides(changes, epochs, seed), install, tracker, online)
    run(archives / name, data, out or Path("runs") / f"{name}-study", options)


def evaluate(
    name: Name,
    data: Data,
    out: Annotated[Path | None, typer.Option(help="Result folder; runs/NAME-evaluation without it.")] = None,
    *,
    part: Annotated[
        Literal["validation", "all"],
        typer.Option(help="The side that training put aside, or all of a data set that it never saw."),
    ] = "validation",
    weights: Annotated[Path | None, typer.Option(help="Instead of those beside the recipe.")] = None,
    seed: Seed = None,
    changes: Changes = None,
    install: Install = False,
    threads: Threads = None,
    archives: Archives = Path("archives"),
) -> None:
    """Measure a model's weights: metrics.json, plots and the model card."""
    _prepare(threads)
    from training.evaluate import Options, install_report
    from training.evaluate import evaluate as run

    result = out or Path("runs") / f"{name}-evaluation"
    run(archives / name, data, result, Options(part, weights, _overrides(changes, None, seed), _command()))
    if install:
        install_report(result, archives / name)


@data_app.command()
def describe(
    folder: Annotated[Path, typer.Argument(help="The data set, in the layout of its public download.")],
    *,
    kind: Annotated[
        Literal["brain_tumor", "chest_xray", "cifar10", "lgg_mri"] | None,
        typer.Option(help="Which data set it is; told by its layout without it."),
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Write samples of every label into this PNG.")] = None,
    validation: Annotated[float, typer.Option(min=0.01, max=0.99, help="Share put aside for the leak check.")] = 0.15,
    seed: Annotated[int, typer.Option(min=0, help="Of the split.")] = 1,
) -> None:
    """Print counts, sizes, modes and duplicates of a data set, and check that no group is on two sides.

    Exits with 1 where a file is broken, an image has two labels, or a split would leak.
    """
    _prepare(None)
    from training.describe import main

    raise typer.Exit(main(kind, folder, picture, validation, seed))


def _prepare(threads: int | None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # What Lightning tells of itself, its tips among it, is not about this run.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _overrides(changes: list[str] | None, epochs: int | None, seed: int | None) -> list[str]:
    given = (("epochs", epochs), ("seed", seed))
    return [*(changes or ()), *(f"{key}={value}" for key, value in given if value is not None)]


def _command() -> str:
    return shlex.join(["radserve", *sys.argv[1:]])
