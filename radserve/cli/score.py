"""`radserve score`: scores folders, buckets and manifests with an archive, without a server."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from radserve.cli.options import option, optional_argument, setting, with_groups
from radserve.cli.terminal import age, console
from radserve.errors import ArchiveError, BatchError, ShardError
from radserve.schema.domain import Mode

if TYPE_CHECKING:
    from radserve.batch.objects import Objects
    from radserve.batch.plan import Plan
    from radserve.batch.shard import Job, Outcome
    from radserve.build.model_store import Entry

_REPORT_INTERVAL: Final = 30.0  # seconds between lines where there is no terminal
_INTERRUPTED: Final = 130


@dataclass(frozen=True)
class Options:
    """Options of the command."""

    source: str | None = optional_argument("Folder, s3://BUCKET/PREFIX, NAME.csv, NAME.parquet, or DICOMDIR.", "INPUT")
    output: str | None = optional_argument("Folder or s3://BUCKET/PREFIX for the results.", "OUTPUT")
    model: str | None = option(None, "Model name.")
    version: str | None = option(None, "Model version. Default: the newest one.")
    model_store: Path = setting(Path("model_store"), "RADSERVE_MODEL_STORE", "Folder of the archives and their index.")
    column: str = option("path", "Column of a manifest that has paths or s3:// URLs.")
    masks: bool = option(False, "Write the masks of a segmentation model, as PNG, to OUTPUT/masks.", "--masks")
    domain: Mode = setting("strict", "RADSERVE_DOMAIN", "Images unlike the training images, as in 'radserve serve'.")
    device: Literal["cpu", "cuda"] = option("cpu", "Processor of the model.")
    workers: int | None = option(None, "Number of processes; 1 runs without Ray. Default: CPU cores, or GPUs.", min=1)
    address: str | None = option(None, "Address of a Ray cluster, such as auto. Default: start Ray on this machine.")
    shard_size: int | None = option(None, "Images in a shard. Default: 500.", min=1)
    resume: bool = option(True, "Continue the job that OUTPUT has; --no-resume requires a new OUTPUT.")
    plan: bool = option(False, "Write the plan, print the number of shards, and exit.", "--plan")
    shard: int | None = setting(
        None, "AWS_BATCH_JOB_ARRAY_INDEX", "Score this shard only, without Ray: one job of an array.", min=0
    )
    verify: str | None = option(None, "Check the results in this folder or bucket, and exit.", metavar="OUTPUT")


@with_groups
def score(options: Options) -> None:
    """Score many images with an archive, each exactly once, without a server.

    OUTPUT/results has a Parquet file for each shard of the images: one row for each image, with the prediction or the
    reason why there is none. The same call continues a job that was interrupted or killed.

    Exit codes:
    0    every image has a row
    1    a shard failed; the same call tries again. With --verify: rows are missing, duplicate or damaged
    2    invalid usage, no image, or OUTPUT cannot be used or has results of another INPUT, options or archive
    130  interrupted
    """
    try:
        code = _score(options) if options.verify is None else _verify(options.verify)
    except KeyboardInterrupt:
        typer.echo("Interrupted. The same call continues.", err=True)
        code = _INTERRUPTED
    except OSError as error:
        raise BatchError(f"{error.filename or options.output}: {error.strerror or error}.") from error
    raise typer.Exit(code)


def _score(options: Options) -> int:
    """Plan and score; return the exit code."""
    from radserve.batch import inputs, objects, shard

    if options.source is None or options.output is None or options.model is None:
        raise typer.BadParameter("INPUT, OUTPUT and --model are required, or --verify OUTPUT.")
    entry = _find(options.model_store, options.model, options.version)
    source, output = inputs.absolute(options.source), inputs.absolute(options.output)
    inputs.require_outside(output, source)
    job = shard.Job(output, (options.model_store / entry.file).absolute(), options.device)
    files = objects.open_objects(output)
    plan = _plan(options, source, files, entry)
    if options.plan:
        typer.echo(plan.shards)
        return 0
    _require_device(options)
    indices = shard.pending(files, plan) if options.shard is None else [options.shard]
    return 1 if _run(options, job, plan, indices) else 0


def _require_device(options: Options) -> None:
    """Raise BatchError if this machine lacks the accelerator; the machines of a cluster are not examined."""
    if options.device == "cuda" and options.address is None:
        import torch

        if not torch.cuda.is_available():
            raise BatchError("--device cuda: no GPU that PyTorch can use; see 'radserve doctor', or omit --device.")


def _find(store: Path, name: str, version: str | None) -> "Entry":
    from radserve.build import model_store

    index = model_store.read(store)
    usable = index if version else model_store.Index(archives=tuple(e for e in index.archives if e.quarantine is None))
    entry = usable.find(name, version)
    if entry is None:
        names = ", ".join(sorted({f"{item.name} {item.version}" for item in usable.archives})) or "none"
        raise ArchiveError(f"{store}: no archive {name} {version or ''}".rstrip() + f". Available: {names}.")
    return entry


def _plan(options: Options, source: str, files: "Objects", entry: "Entry") -> "Plan":
    """Return the plan of the output, whose list of images is final, or make one."""
    from radserve.batch import inputs
    from radserve.batch import plan as plans

    existing = plans.read(files)
    if existing is not None and not options.resume:
        raise BatchError(f"{files.url}: has results already; choose another OUTPUT, or omit --no-resume.")
    _require_utf8(source)
    is_listed = existing is None or options.shard is None  # one job of an array does not list the images again
    names = inputs.find(source, options.column) if is_listed else []
    wanted = plans.Plan(
        input=source,
        column=options.column if inputs.is_manifest(source) else None,
        inputs=len(names) or 1,  # with an existing plan, its own list counts
        inputs_sha256=plans.digest(names),
        shard_size=options.shard_size or plans.DEFAULT_SHARD_SIZE,
        archive=plans.Archive(name=entry.name, version=entry.version, sha256=entry.sha256),
        domain=options.domain,
        masks=options.masks,
    )
    plan = plans.prepare(files, wanted, names, fixed=options.shard_size is not None)
    if count := plans.added(files, plan, names):
        typer.echo(
            f"{count} {'image is' if count == 1 else 'images are'} new and not part of this job; "
            "score them with another OUTPUT.",
            err=True,
        )
    return plan


def _require_utf8(source: str) -> None:
    try:
        source.encode()
    except UnicodeEncodeError as error:
        raise BatchError(f"The name {source!r} of INPUT is not valid UTF-8; rename it.") from error


def _run(options: Options, job: "Job", plan: "Plan", indices: list[int]) -> int:
    """Score shards and show the progress; return how many failed."""
    total = sum(map(plan.size, indices))
    if options.shard is None and total < plan.inputs:
        typer.echo(f"{plan.inputs - total} of {plan.inputs} images have a row already.", err=True)
    start, count, results, elsewhere, failures = time.monotonic(), 0, 0, 0, []
    with _progress(total) as advance:
        for outcome in _outcomes(options, job, indices):
            if isinstance(outcome, ShardError):
                failures.append(str(outcome))
                continue
            receipt = outcome.receipt
            advance(receipt.rows)
            if outcome.is_new:
                count, results = count + receipt.rows, results + receipt.results
            else:
                elsewhere += receipt.rows
    seconds = time.monotonic() - start
    for text in failures:
        typer.echo(text, err=True)
    rate = f" in {age(seconds)}, {count / seconds:.1f}/s" if count else ""
    typer.echo(f"{count} images scored{rate}: {results} analysed, {count - results} failed.", err=True)
    if elsewhere:
        typer.echo(f"{elsewhere} images had a row already, from another call.", err=True)
    lost = total - count - elsewhere
    if lost:
        typer.echo(f"{lost} images have no row, because their shards failed. The same call tries again.", err=True)
    return lost


def _outcomes(options: Options, job: "Job", indices: list[int]) -> "Iterator[Outcome | ShardError]":
    from radserve.batch import engines
    from radserve.host.resources import cores

    if not indices:
        return iter(())
    count = options.workers or (cores() if options.device == "cpu" else 1)
    if options.shard is not None or (count == 1 and options.address is None):
        return engines.run_here(job, indices)
    gpus = 1 if options.device == "cuda" else 0
    return engines.run_on_ray(job, indices, engines.Workers(count, gpus=gpus, address=options.address))


@contextmanager
def _progress(total: int) -> "Iterator[Callable[[int], None]]":
    """Show a bar on a terminal, with rate and remaining time, or else a line from time to time."""
    out = console(stderr=True)
    columns = (TextColumn("Scoring"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    start = reported = time.monotonic()
    done = first = 0
    with Progress(*columns, TimeRemainingColumn(), console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task("", total=total, rate="")

        def advance(count: int) -> None:
            nonlocal done, first, start, reported
            done, now = done + count, time.monotonic()
            if not first:  # the workers have started: what that took says nothing about the rest
                first, start = count, now
            rate = (done - first) / max(now - start, 1e-3)
            bar.update(task, advance=count, rate=f"{rate:.1f}/s")
            if not out.is_terminal and rate and now - reported >= _REPORT_INTERVAL:
                reported = now
                typer.echo(f"{done} of {total} images, {rate:.1f}/s, {age((total - done) / rate)} left", err=True)

        yield advance


def _verify(output: str) -> int:
    """Check the results of a job, print what is wrong, and return the exit code."""
    from radserve.batch import verification
    from radserve.batch.objects import open_objects

    plan, checks = verification.verify(open_objects(output))
    good, wrong = 0, 0
    for item in checks:
        good += item.rows
        for defect in item.defects:
            wrong += 1
            typer.echo(defect)
    archive = plan.archive
    typer.echo(
        f"{good} of {plan.inputs} images have exactly one row of {archive.name} {archive.version}; {wrong} defects.",
        err=True,
    )
    return 1 if wrong else 0
