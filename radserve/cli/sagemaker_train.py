"""`radserve sagemaker-train`: trains a model in a SageMaker training job, and builds its archive."""

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer

from training import container
from training.cli import Archives, Module, check_data, prepare
from training.container import Job
from training.errors import JobError

_TERMINATED: Final = 128 + signal.SIGTERM
"""Exit code of a program without a handler of the signal; with 0, SageMaker would take the training for complete."""


def sagemaker_train(
    *,
    root: Annotated[
        Path, typer.Option(envvar="SAGEMAKER_BASE_DIR", help="Folder with input, model, output and checkpoints.")
    ] = Path("/opt/ml"),
    archives: Archives = Path("archives"),
    module: Module = None,
) -> None:
    """Train a model in a SageMaker training job.

    The image runs this when SageMaker starts it with 'train'. A job that was
    interrupted continues after the last complete epoch in 'checkpoints'.

    Exit codes:
    0    'model' has the archive
    1    the training failed; 'output/failure' says why
    143  stopped by SIGTERM
    """
    # Lightning would finish the batch and exit with 0. All files are written atomically.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(_TERMINATED))
    try:
        job = container.read(root)
        prepare(None, module)
        container.log_device()
        with tempfile.TemporaryDirectory(prefix="radserve-") as scratch:
            folder = _model_folder(job, archives, Path(scratch) / "archives")
            check_data(folder, job.data, job.overrides)
            _run(job, folder, root, Path(scratch) / "result")
    except Exception as error:
        container.write_failure(root, error)
        raise


def _model_folder(job: Job, archives: Path, scratch: Path) -> Path:
    """Copy the model's folder, with the version of the job."""
    from handlers import recipe as recipes
    from training import recipe_files

    source = job.recipe or archives / job.model
    if not (source / "archive.yaml").is_file():
        names = ", ".join(sorted(path.parent.name for path in archives.glob("*/archive.yaml"))) or "none"
        hint = f"Available: {names}." if job.recipe is None else "Upload the model's folder to the channel 'recipe'."
        raise JobError(f"model {job.model!r}: {source}/archive.yaml not found. {hint}")
    folder = Path(shutil.copytree(source, scratch / job.model, copy_function=shutil.copyfile))
    recipe = recipes.load(folder / "archive.yaml")
    if recipe.name != job.model:
        raise JobError(f"model {job.model!r}: the channel 'recipe' has the recipe of {recipe.name!r}.")
    if job.version is not None:
        changed = recipe.model_copy(update={"version": job.version})
        recipe_files.write(changed, folder / "archive.yaml", recipe_files.HEADER.format(name=recipe.name))
    return folder


def _run(job: Job, folder: Path, root: Path, result: Path) -> None:
    """Train or search in the folder of checkpoints; copy the complete result to `model`."""
    out = root / "checkpoints"
    temporary = out / ".temporary"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    # Checkpoints are written to temporary files and moved, which is atomic only within a file system.
    tempfile.tempdir = str(temporary)
    try:
        (_train if job.trials is None else _tune)(job, folder, out, result)
    finally:
        tempfile.tempdir = None
        shutil.rmtree(temporary)
    shutil.copytree(result, root / "model", dirs_exist_ok=True)


def _train(job: Job, folder: Path, out: Path, result: Path) -> None:
    """Train, and build the archive: the result can be served by `radserve sagemaker`, or pushed to a store."""
    from handlers import recipe as recipes
    from radserve.build import builder
    from radserve.build.source import Source
    from training.train import Options, train

    options = Options(
        resume=container.can_resume(out),
        overrides=job.overrides,
        install=True,
        progress=False,
        tracker="none",
        command=job.command,
    )
    train(folder, job.data, out, options)
    builder.build(Source(folder, recipes.load(folder / "archive.yaml")), result)
    shutil.copytree(folder, result / job.model)


def _tune(job: Job, folder: Path, out: Path, result: Path) -> None:
    from training.tune import Options, tune

    assert job.trials is not None
    tune(folder, job.data, out, Options(job.trials, job.storage, job.overrides, tracker="none"))
    if not (out / "training.yaml").is_file():
        raise JobError("No trial was completed; the log says why. Set 'trials' to a larger number.")
    result.mkdir()
    shutil.copyfile(out / "training.yaml", result / "training.yaml")
    shutil.copytree(out / "plots", result / "plots")
