"""The command line. Each command imports what it needs when it runs: `--help` must not wait for torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

import training.cli
from handlers.errors import RadServeError
from radserve.cli import deploy as deploy_cli
from radserve.cli import deployment, keys, models, rollout, sagemaker, serve
from radserve.cli import store as store_cli
from radserve.cli.serve import MODEL_STORE, Store
from radserve.errors import MissingWeightsError

_TRAINING: Final = frozenset(
    {"lightning", "matplotlib", "monai", "optuna", "plotly", "scipy", "tensorboard", "torchmetrics"}
)
"""What only training needs, and a serving environment does not have."""

app = typer.Typer(
    help="Turn trained X-ray and MRI models into TorchServe archives, and serve them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Archives = Annotated[Path, typer.Option(help="Folder of the recipes.")]


@app.command()
def build(
    names: Annotated[list[str] | None, typer.Argument(help="Models to build; all if none is named.")] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Build all: what is done when none is named.")] = False,
    archives: Archives = Path("archives"),
    model_store: Store = MODEL_STORE,
    missing: Annotated[
        bool, typer.Option("--missing", help="Build only what is missing or no longer current.")
    ] = False,
    untrained: Annotated[
        bool,
        typer.Option("--untrained", help="Where weights are not shipped, build with random ones, for trying out."),
    ] = False,
) -> None:
    """Build archives from their recipes into the model store.

    A model whose weights are not shipped is passed over, with a line that
    says how to get them, unless it is named: then it is an error. With
    --untrained it is built as version 0.0.0, with random weights, and every
    answer of it carries a warning.

    Exit codes:
    0    everything was built that can be
    1    at least one model was not; its line says why
    """
    from radserve.build import builder as building

    if everything and names:
        raise typer.BadParameter("--all and the names of models exclude each other.")
    failed = False
    for source in building.find(archives, names or (), untrained=untrained):
        if missing and building.is_current(source, model_store):
            continue
        try:
            entry = building.build(source, model_store)
        except MissingWeightsError as error:
            failed |= bool(names)
            typer.echo(f"radserve: {error}", err=True)
        except RadServeError as error:
            failed = True
            typer.echo(f"radserve: {error}", err=True)
        else:
            typer.echo(f"{entry.name} {entry.version}  {entry.size / 1e6:.1f} MB  sha256 {entry.sha256}")
    if failed:
        raise typer.Exit(1)


@app.command("import")
def import_(
    name: Annotated[str, typer.Argument(help="Model whose network the weights are for.")],
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint of the original system, written by torch.save.")],
    *,
    out: Annotated[Path | None, typer.Option(help="File to write the weights to (.safetensors).")] = None,
    install: Annotated[
        bool, typer.Option("--install", help="Put them into the archive's folder, with recipe and card.")
    ] = False,
    original: Annotated[
        bool, typer.Option("--original", help="With --install: preprocess as the original system did (original.yaml).")
    ] = False,
    archives: Archives = Path("archives"),
) -> None:
    """Bring your own weights: make those of a checkpoint ready to serve.

    Takes a state dict, by itself or under state_dict, model_state_dict or
    model, with or without the prefix of DataParallel. Nothing in the file is
    executed. What does not fit is listed, key by key.
    """
    from radserve.build import builder as building
    from radserve.build import import_weights

    if (out is None) == (not install):
        raise typer.BadParameter("say where to: either --out FILE or --install.")
    if original and not install:
        raise typer.BadParameter("--original changes the recipe, so it needs --install.")
    (source,) = building.find(archives, [name])
    if out is None:
        done = import_weights.install(source.folder, checkpoint, original=original)
        typer.echo(f"{done.weights}  sha256 {done.recipe.weights.sha256}")
        typer.echo(f"{name} is now version {done.recipe.version}. Build it: radserve build {name}")
    else:
        done = import_weights.convert(source.recipe, checkpoint, out)
        typer.echo(f"{done.weights}  sha256 {done.recipe.weights.sha256}")
        typer.echo(f"To serve it, import with --install, or copy it to {source.weights} and put its sha256 there.")


@app.command()
def predict(
    name: Annotated[str, typer.Argument(help="The model.")],
    files: Annotated[list[str], typer.Argument(help="Images, folders of images, or - for standard input.")],
    *,
    url: Annotated[str, typer.Option(help="Where the server listens.")] = "http://127.0.0.1:8080",
    version: Annotated[str | None, typer.Option(help="Of the model; the server's default one if not named.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document a line, in the order of the files.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="CSV with a header, in the order of the files.")] = False,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Most requests at a time.")] = 4,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.")] = 60.0,
    masks: Annotated[Path | None, typer.Option(help="Write masks into this folder, as NAME.mask.png.")] = None,
    overlays: Annotated[
        Path | None, typer.Option(help="Write images with their masks' outlines, as NAME.overlay.png.")
    ] = None,
    explain: Annotated[
        Path | None, typer.Option(help="Write images under a heat map of where a classifier looked, as NAME.heat.png.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace pictures that exist.")] = False,
    key: Annotated[
        str | None, typer.Option(envvar="RADSERVE_KEY", help="For a front that asks for one; better as variable.")
    ] = None,
    cacert: Annotated[
        Path | None, typer.Option(help="PEM file of the authority that signed the server's certificate.")
    ] = None,
    api: Annotated[
        Literal["auto", "server", "gateway"],
        typer.Option(help="Whose paths to ask; auto asks the URL itself, which matters where nginx has both."),
    ] = "auto",
) -> None:
    """Ask a running server, or a gateway before one, about images.

    Of a folder, and the folders in it, files with the suffix of an image
    or with none are asked about; hidden ones are not. Answers go to standard
    output, everything else to standard error: also the warning of a model
    whose answers must not be relied on, which stands beside each of them too.

    Exit codes:
    0    every image was answered, and every picture written
    1    at least one was not; its line says why
    2    wrong usage, no such file, nothing found, a model that is not served,
         a picture that exists or cannot be written
    3    nobody answers at the URL
    130  interrupted
    """
    from radserve.cli import predict as predicting
    from radserve.cli.outputs import Pictures

    if json and csv:
        raise typer.BadParameter("--json and --csv exclude each other.")
    form: predicting.Form = "json" if json else "csv" if csv else "table"
    pictures = Pictures(masks, overlays, explain, force)
    options = predicting.Options(name, files, url, version, form, concurrency, timeout, key, cacert, api, pictures)
    raise typer.Exit(predicting.predict(options))


for _command in (
    serve.serve,
    serve.front,
    sagemaker.sagemaker,
    rollout.rollout,
    deployment.apply,
    deployment.diff,
    deployment.audit,
    training.cli.train,
    training.cli.tune,
    training.cli.evaluate,
):
    app.command()(_command)
app.add_typer(training.cli.data_app, name="data")
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(store_cli.app, name="store")
app.add_typer(deploy_cli.app, name="deploy")


def main() -> None:
    """Run the command line; what RadServe itself refuses is one line, not a traceback."""
    try:
        app()
    except RadServeError as error:
        typer.echo(f"radserve: {error}", err=True)
        sys.exit(getattr(error, "code", 1))
    except ModuleNotFoundError as error:
        if error.name not in _TRAINING:
            raise
        typer.echo(f"radserve: {error.name} is not installed; training needs 'uv sync --group train'.", err=True)
        sys.exit(1)
