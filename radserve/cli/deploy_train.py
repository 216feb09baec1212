"""`radserve deploy train`: trains a model in a SageMaker training job."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import typer

from radserve.cli.options import argument, option, setting, with_groups
from radserve.deploy import training_job
from radserve.deploy.aws_clients import Cloud, readable_errors, select
from radserve.deploy.errors import SettingsError, TrainingJobError
from radserve.deploy.training_job import State, TrainingJob

_OPTIONS: Final = {"model": "NAME", "version": "--version", "trials": "--trials", "storage": "--storage"}
_IGNORED: Final = ("_", "sagemaker_")
"""Prefixes of hyper-parameters that the container ignores, because SageMaker's own tools add them."""


@dataclass(frozen=True)
class Options:
    """Options of the command."""

    name: str = argument("Model to train.")
    data: str = option(..., "Data set in S3, in the layout of its public download.")
    output: str = setting(..., "RADSERVE_TRAINING_OUTPUT", "s3://BUCKET/PREFIX for results and checkpoints.")
    image: str = setting(..., "RADSERVE_TRAINING_IMAGE", "URI of the image radserve/train in ECR.")
    role: str = setting(..., "RADSERVE_TRAINING_ROLE", "ARN of the role of the job.")
    job: str | None = option(None, "Name of the job. Default: the same name for the same options.")
    set_: list[str] | None = option(None, "Replace a setting of training.yaml: key=value; repeatable.", "--set")
    version: str | None = option(None, "Version of the result. Default: the recipe's.")
    recipe: str | None = option(None, "s3:// URL of a model's folder that is not in the image.")
    instance: str = option("ml.g5.xlarge", "Type of the instance.")
    volume: int = option(50, "Disk in GB.", min=1)
    spot: bool = option(False, "Use spare capacity at a lower price; an interrupted job continues.", "--spot")
    max_hours: int = option(24, "Stop the job after this time of training.", min=1)
    max_wait_hours: int | None = option(
        None, "With --spot, stop it after this time, including waiting. Default: twice --max-hours.", min=1
    )
    checkpoints: str | None = option(
        None, "s3:// URL of the checkpoints; a folder per job with --jobs. Default: below --output and the job's name."
    )
    subnet: list[str] | None = option(None, "Run in this subnet of a VPC; repeatable.")
    security_group: list[str] | None = option(None, "Security group in the VPC; repeatable.")
    trials: int | None = option(None, "Search for better settings with this number of trials of all jobs.", min=1)
    storage: str | None = option(None, "Database of the search, an Optuna URL that the jobs can reach.")
    jobs: int = option(1, "Number of jobs that share the search.", min=1)
    region: str | None = option(None, "AWS region.")
    profile: str | None = option(None, "Profile in AWS' configuration files.")

    def job_(self) -> TrainingJob:
        """Return the job that the options describe."""
        parameters = dict(map(_parameter, self.set_ or ()))
        own = {"version": self.version, "trials": self.trials and str(self.trials), "storage": self.storage}
        return TrainingJob(
            self.name,
            self.image,
            self.role,
            self.data,
            self.output,
            parameters | {key: value for key, value in own.items() if value},
            recipe=self.recipe,
            instance=self.instance,
            volume=self.volume,
            spot=self.spot,
            max_hours=self.max_hours,
            max_wait_hours=self.max_wait_hours,
            checkpoints=self.checkpoints,
            subnets=tuple(self.subnet or ()),
            security_groups=tuple(self.security_group or ()),
        )


@with_groups
def train(
    options: Options,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Follow status and metrics until the job has ended.")] = False,
    register: Annotated[
        str | None,
        typer.Option(
            help="Wait, and publish the archive in this store: s3://BUCKET/PREFIX or a folder.", metavar="STORE"
        ),
    ] = None,
    signing_key: Annotated[
        str, typer.Option(envvar="RADSERVE_STORE_SIGNING_KEY", help="Key that signs the store's index, or env:NAME.")
    ] = "",
) -> None:
    """Train a model in a SageMaker training job.

    The same call finds the job that it started before: add --wait to follow
    it, or --register to publish its archive.

    Exit codes:
    0    the job has started; with --wait or --register, it is complete
    1    it failed or was stopped, or AWS rejected a request; the message says
         why
    2    an option is invalid; nothing was started
    """
    job = options.job_()
    _check(options, register)
    with readable_errors():
        select(options.region, options.profile)
        cloud = Cloud(options.region, options.profile)
        states = [_start(cloud, _own_checkpoints(options, job, name), name) for name in _names(options, job)]
        states = _require_success(cloud, states, follow=wait or register is not None)
        if register:
            _register(cloud, states[0], register, signing_key)


def _check(options: Options, register: str | None) -> None:
    """Reject options that would fail only after an instance has started."""
    if options.trials is None and (options.storage or options.jobs > 1):
        raise SettingsError("--storage and --jobs belong to a search; add --trials.")
    if options.jobs > 1 and not options.storage:
        raise SettingsError("--jobs needs --storage, the database that the jobs share.")
    if options.trials is not None and (register or options.version):
        raise SettingsError("A search has no archive; omit --register and --version.")
    file = Path("archives", options.name, "training.yaml")
    if file.is_file() and options.recipe is None and importlib.util.find_spec("training"):
        from training import settings
        from training.errors import TrainingError

        try:
            settings.load(file, options.set_ or ())
        except TrainingError as error:
            raise SettingsError(str(error)) from error


def _names(options: Options, job: TrainingJob) -> list[str]:
    name = options.job or job.default_name()
    return [name] if options.jobs == 1 else [f"{name}-{number}" for number in range(1, options.jobs + 1)]


def _own_checkpoints(options: Options, job: TrainingJob, name: str) -> TrainingJob:
    """Return a job that shares its checkpoints with no other job of the call."""
    if options.checkpoints is None or options.jobs == 1:
        return job
    return replace(job, checkpoints=f"{options.checkpoints.rstrip('/')}/{name}")


def _require_success(cloud: Cloud, states: Sequence[State], *, follow: bool) -> list[State]:
    """Look at all jobs before raising the errors of those that failed; return their last states."""
    last, errors = [], []
    for state in states:
        try:
            last.append(_follow(cloud, state.name) if follow else state)
            training_job.require_success(last[-1])
        except TrainingJobError as error:
            errors.append(str(error))
    if errors:
        raise TrainingJobError("\n".join(errors))
    return last


def _start(cloud: Cloud, job: TrainingJob, name: str) -> State:
    state, is_new = training_job.start(cloud, job, name)
    typer.echo(f"{name}: {'started' if is_new else f'exists, {state.status}'}")
    return state


def _follow(cloud: Cloud, name: str) -> State:
    """Print what changes, and return the state of the complete job."""
    for state in training_job.follow(cloud, name):
        metrics = "".join(f"  {key} {value:.4f}" for key, value in sorted(state.metrics.items()))
        typer.echo(f"{name}: {state.step or state.status}{metrics}")
    return state


def _register(cloud: Cloud, state: State, url: str, signing_key: str) -> None:
    from radserve.store import open_store

    transfer = training_job.register(cloud, state, open_store(url, signing_key=signing_key))
    entry = transfer.archive
    done = "published" if transfer.fresh else "already published"
    typer.echo(f"{entry.name} {entry.version}  {done} in {url}  sha256 {entry.sha256}")


def _parameter(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise SettingsError(f"--set {text}: expected key=value.")
    if key in _OPTIONS or key.startswith(_IGNORED):
        hint = f"; use {_OPTIONS[key]}" if key in _OPTIONS else ""
        raise SettingsError(f"--set {text}: {key!r} is reserved{hint}.")
    return key, value
