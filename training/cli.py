"""Commands `radserve train`, `tune`, `evaluate` and `data`. Torch is imported when a command runs, not for `--help`."""

import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

Name = Annotated[str, typer.Argument(help="Model, a folder in --archives.")]
Data = Annotated[Path, typer.Option(help="Data set, in the layout of its public download.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Number of epochs. Default: as in training.yaml.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Random seed. Default: as in training.yaml.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Replace a setting of training.yaml: key=value.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of torch. Default: all cores.")]
Archives = Annotated[Path, typer.Option(help="Folder of the recipes.")]
Tracker = Annotated[
    Literal["tensorboard", "wandb", "mlflow", "none"],
    typer.Option(help="Experiment tracker. It writes below --out; MLflow follows MLFLOW_TRACKING_URI."),
]
Online = Annotated[bool, typer.Option("--online", help="Upload to Weights & Biases; requires a login.")]
Module = Annotated[
    list[str] | None,
    typer.Option(
        help="Permit the network module:PACKAGE.MODULE:CLASS. This executes the code of that module.",
        metavar="PACKAGE.MODULE:CLASS",
        envvar="RADSERVE_MODULE",
    ),
]
Install = Annotated[bool, typer.Option("--install", help="Install the result in the model's folder.")]

data_app = typer.Typer(help="Inspect data sets.", no_args_is_help=True, add_completion=False)


@data_app.callback()
def _data() -> None:
    """Inspect data sets."""  # a callback keeps `describe` a subcommand, although it is the only one


def train(
    name: Name,
    data: Data,
    out: Annotated[Path | None, typer.Option(help="Result folder. Default: runs/NAME.")] = None,
    *,
    epochs: Epochs = None,
    seed: Seed = None,
    changes: Changes = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue after the last complete epoch in --out.")] = False,
    start: Annotated[
        Path | None, typer.Option("--from", help="Start with the weights of this released run or model folder.")
    ] = None,
    tracker: Tracker = "tensorboard",
    online: Online = False,
    install: Install = False,
    threads: Threads = None,
    module: Module = None,
    archives: Archives = Path("archives"),
) -> None:
    """Train a model; writes checkpoints, weights, recipe, metrics and card to the result folder."""
    overrides = _overrides(changes, epochs, seed)
    check_data(archives / name, data, overrides)
    prepare(threads, module)
    from training.train import Options
    from training.train import train as run

    options = Options(resume, overrides, install, sys.stderr.isatty(), start, tracker, online, typed_command())
    run(archives / name, data, out or Path("runs") / name, options)


def tune(
    name: Name,
    data: Data,
    out: Annotated[Path | None, typer.Option(help="Result folder. Default: runs/NAME-study.")] = None,
    *,
    trials: Annotated[int, typer.Option(min=1, help="Number of trials of the study, of all workers together.")] = 20,
    storage: Annotated[
        str | None, typer.Option(help="Optuna storage URL to share with other workers. Default: SQLite in --out.")
    ] = None,
    epochs: Epochs = None,
    seed: Seed = None,
    changes: Changes = None,
    tracker: Tracker = "tensorboard",
    online: Online = False,
    install: Install = False,
    threads: Threads = None,
    module: Module = None,
    archives: Archives = Path("archives"),
) -> None:
    """Search for better training settings.

    The search space is the key `tune` of the model's training.yaml. A study with the same storage is resumed, or shared
    with the workers that use it: each ends when the study has all its trials. A trial of a worker that has died fails
    after 3 minutes, and is replaced.
    """
    overrides = _overrides(changes, epochs, seed)
    check_data(archives / name, data, overrides)
    prepare(threads, module)
    from training.tune import Options
    from training.tune import tune as run

    options = Options(trials, storage, overrides, install, tracker, online)
    run(archives / name, data, out or Path("runs") / f"{name}-study", options)


def evaluate(
    name: Name,
    data: Data,
    out: Annotated[Path | None, typer.Option(help="Result folder. Default: runs/NAME-evaluation.")] = None,
    *,
    part: Annotated[
        Literal["validation", "all"],
        typer.Option(help="Measure the validation side of the training, or all of a data set not used for training."),
    ] = "validation",
    external: Annotated[
        tuple[str, Path] | None,
        typer.Option(
            help="Measure images of another source: its name, and a folder, see docs/models.md.",
            metavar="NAME DIR",
        ),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights to measure. Default: those of the model.")] = None,
    ood: Annotated[
        bool, typer.Option("--ood", help="Also measure what the detector of unlike images refuses.")
    ] = False,
    reference: Annotated[
        bool,
        typer.Option("--reference", help="Only update the reference of monitoring; keep the other figures."),
    ] = False,
    other: Annotated[
        list[str] | None, typer.Option(help="With --ood, a folder of images of other things: name=FOLDER.")
    ] = None,
    seed: Seed = None,
    changes: Changes = None,
    install: Install = False,
    threads: Threads = None,
    module: Module = None,
    archives: Archives = Path("archives"),
) -> None:
    """Measure a model's weights; writes metrics.json, plots and the model card to the result folder."""
    overrides = _overrides(changes, None, seed)
    check_data(archives / name, data, overrides)
    prepare(threads, module)
    from training.evaluate import Options, install_report, update_reference
    from training.evaluate import evaluate as run

    result = out or Path("runs") / f"{name}-evaluation"
    if ood and weights is not None:
        raise typer.BadParameter("--ood measures the detector of the installed weights; it excludes --weights.")
    if reference:
        if part != "validation" or weights is not None or ood or external is not None:
            raise typer.BadParameter("--reference excludes --part, --weights, --ood and --external.")
        update_reference(archives / name, data, result, overrides)
    elif external is None:
        options = Options(part, weights, overrides, typed_command(), ood, _folders(other))
        run(archives / name, data, result, options)
    elif part != "validation" or weights is not None or overrides or ood:
        raise typer.BadParameter(
            "--external measures the installed weights; it excludes --part, --weights, --set and --ood."
        )
    else:
        from training.external import Source
        from training.external import evaluate as run_external

        run_external(archives / name, data, Source(*external), result, typed_command())
    if install:
        install_report(result, archives / name)


def fit_detector(
    name: Name,
    data: Data,
    out: Annotated[Path | None, typer.Option(help="Result folder. Default: runs/NAME-detector.")] = None,
    *,
    also: Annotated[
        Path | None,
        typer.Option(help="More training images in the same layout, like the originals of scaled copies."),
    ] = None,
    seed: Seed = None,
    changes: Changes = None,
    install: Install = False,
    threads: Threads = None,
    module: Module = None,
    archives: Archives = Path("archives"),
) -> None:
    """Fit the detector of images unlike the training images; writes it and the recipe to the result folder."""
    folder, overrides = archives / name, _overrides(changes, None, seed)
    for source in filter(None, (data, also)):
        check_data(folder, source, overrides)
    prepare(threads, module)
    from training import settings
    from training.detector.fit import fit_detector as run
    from training.detector.fit import install as copy
    from training.evaluate import refresh

    result, config = out or Path("runs") / f"{name}-detector", settings.load(folder / "training.yaml", overrides)
    run(folder, config, data, result, also)
    if install:
        copy(result, folder)
        refresh(folder, config, data)


@data_app.command()
def describe(
    folder: Annotated[Path, typer.Argument(help="Data set, in the layout of its public download.")],
    *,
    kind: Annotated[
        Literal["brain_tumor", "chest_xray", "cifar10", "lgg_mri"] | None,
        typer.Option(help="Name of the data set. Default: detected from its layout."),
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Write samples of every label to this PNG.")] = None,
    validation: Annotated[float, typer.Option(min=0.01, max=0.99, help="Validation share for the leak check.")] = 0.15,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 1,
) -> None:
    """Print counts, sizes, modes and duplicates of a data set, and check that the split does not leak.

    Exit codes:
    0    the data set is usable
    1    a file is broken, an image has two labels, or a group is on both sides of the split
    """
    prepare(None)
    from training.describe import main

    raise typer.Exit(main(kind, folder, picture, validation, seed))


def cards(
    names: Annotated[list[str] | None, typer.Argument(help="Models. Default: all with training settings.")] = None,
    *,
    chai: Annotated[
        Path | None,
        typer.Option(help="Also write NAME.xml to this folder: the Applied Model Card of the Coalition for Health AI."),
    ] = None,
    archives: Archives = Path("archives"),
) -> None:
    """Regenerate the model cards from the recipes, the metrics and the texts about the data sets."""
    from training.cards import files

    if chai is not None:
        chai.mkdir(parents=True, exist_ok=True)
    for path in files.write(archives, names or (), chai):
        typer.echo(path)


def check_data(folder: Path, data: Path, overrides: Sequence[str] = ()) -> None:
    """Reject invalid settings and a folder with another layout before the seconds that torch needs to start."""
    from training import datasets, settings

    datasets.check(settings.load(folder / "training.yaml", overrides).data, data)


def prepare(threads: int | None, modules: list[str] | None = None) -> None:
    """Configure the log, the threads of torch, and the modules that define networks."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # Lightning logs tips and hardware information at INFO.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    allow(modules)


def allow(modules: list[str] | None) -> None:
    """Permit the networks `module:...` that the caller names."""
    if modules:
        from training.networks import library

        for target in modules:
            library.allow(target)


def _overrides(changes: list[str] | None, epochs: int | None, seed: int | None) -> list[str]:
    options = (("epochs", epochs), ("seed", seed))
    return [*(changes or ()), *(f"{key}={value}" for key, value in options if value is not None)]


def _folders(texts: list[str] | None) -> dict[str, Path]:
    """Parse the values of --other."""
    pairs = [text.partition("=") for text in texts or ()]
    if wrong := [name for name, _, folder in pairs if not (name and folder)]:
        raise typer.BadParameter(f"invalid value {wrong[0]!r}; expected name=FOLDER", param_hint="--other")
    return {name: Path(folder) for name, _, folder in pairs}


def typed_command() -> str:
    """Return the command line of this process, for `metrics.json`."""
    return shlex.join(["radserve", *sys.argv[1:]])
