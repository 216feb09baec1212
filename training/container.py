"""SageMaker's contract for training containers: configuration, data, checkpoints, and the reason of a failure.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
"""

import csv
import json
import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from training.errors import JobError

DATA: Final = "training"
RECIPE: Final = "recipe"  # optional channel: a model's folder that replaces the one in the image
_STARTED: Final = ("training.yaml", "command.txt", "training_images.txt")
_REASON: Final = 1024  # characters that SageMaker shows
_OWN: Final = ("sagemaker_", "_")
"""Prefixes of the hyper-parameters that SageMaker's SDK and its tuning jobs add."""
_DRIVER: Final = Path("/proc/driver/nvidia")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What to train. `trials` turns it into a search for better settings, shared by all jobs with one `storage`."""

    model: str
    data: Path
    recipe: Path | None = None  # the model's folder; None for the one in the image
    version: str | None = None  # of the result; None for the recipe's
    trials: int | None = None
    storage: str | None = None
    overrides: tuple[str, ...] = ()  # `key=value` that replace settings of `training.yaml`

    @property
    def command(self) -> str:
        """Command line that trains the same weights, for `metrics.json`."""
        return " ".join([f"radserve train {self.model} --data DIR", *(f"--set '{each}'" for each in self.overrides)])


def read(root: Path) -> Job:
    """Read the configuration below `root` (`/opt/ml`); JobError names the file and what is wrong."""
    config = root / "input" / "config"
    hosts = _load(config / "resourceconfig.json").get("hosts", ())
    if len(hosts) > 1:
        raise JobError(f"resourceconfig.json: {len(hosts)} instances; a model is trained on one. Set InstanceCount=1.")
    values = {
        key: str(value) for key, value in _load(config / "hyperparameters.json").items() if not key.startswith(_OWN)
    }
    model, version, trials, storage = (
        _text(key, values.pop(key, "")) for key in ("model", "version", "trials", "storage")
    )
    if not model:
        raise JobError("hyperparameters.json: 'model' is missing; set it to the name of the model to train.")
    data, recipe = _channels(root, _load(config / "inputdataconfig.json"))
    if trials is not None and not (trials.isdecimal() and int(trials)):
        raise JobError(f"hyperparameters.json: trials has value {trials!r}; use a whole number above 0.")
    overrides = tuple(f"{key}={value}" for key, value in sorted(values.items()))
    return Job(model, data, recipe, version, None if trials is None else int(trials), storage, overrides)


def write_failure(root: Path, error: Exception) -> None:
    """Write the reason that SageMaker shows as `FailureReason`."""
    path = root / "output" / "failure"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{type(error).__name__}: {error}"[:_REASON], encoding="utf-8")


def log_device(driver: Path = _DRIVER) -> None:
    """Log what trains; warn if the kernel has NVIDIA's driver, but the container cannot use it."""
    import torch

    if torch.cuda.is_available():
        _log.info("training on %s", torch.cuda.get_device_name())
    elif (driver / "version").exists():
        _log.warning(
            "training on the CPU: the machine has an NVIDIA GPU, but CUDA is unavailable; check the container's "
            "runtime, NVIDIA_DRIVER_CAPABILITIES and the driver's version"
        )
    else:
        _log.info("training on the CPU")


def can_resume(out: Path) -> bool:
    """Whether a folder of checkpoints has a run that can be continued; what remains of another one is deleted.

    SageMaker copies each file to S3 when it changes, so after an interruption the two checkpoints can be of different
    epochs, and `epochs.csv` can lack some. A best one that is newer than the last is replaced when its epoch is
    repeated; an older one would be released as the best, so the run starts again, with the same result.
    """
    from training.fit import BEST, LAST  # imports torch

    if all((out / name).is_file() for name in (*_STARTED, BEST, LAST)) and _agree(
        out / BEST, out / LAST, out / "epochs.csv"
    ):
        return True
    for name in (BEST, LAST):
        if (out / name).exists():
            _log.info("%s: incomplete checkpoints, starting again", out)
            (out / name).unlink()
    return False


def _agree(best: Path, last: Path, table: Path) -> bool:
    import torch

    try:
        states = [torch.load(path, map_location="cpu", weights_only=True) for path in (best, last)]
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError):
        return False
    if not _has_epochs(table, states[1]["epoch"] + 1):
        return False
    scores = [_best_score(state) for state in states]
    return bool(states[0]["epoch"] > states[1]["epoch"] or scores[0] == scores[1])


def _has_epochs(table: Path, count: int) -> bool:
    """Whether the table begins with complete rows of the first epochs."""
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = [[float(value) for value in row.values()] for row in csv.DictReader(file)]
    except (OSError, TypeError, ValueError, csv.Error):
        return False
    return [row[0] for row in rows[:count]] == list(range(count))


def _best_score(state: Mapping[str, Any]) -> float | None:
    """Return the best score up to a checkpoint."""
    scores = (each.get("best_model_score") for each in state["callbacks"].values() if each.get("monitor") == "score")
    return next((float(score) for score in scores if score is not None), None)


def _channels(root: Path, config: Mapping[str, Any]) -> tuple[Path, Path | None]:
    """Return the folders of the data and of the recipe."""
    for name, channel in config.items():
        if channel.get("TrainingInputMode", "File") not in ("File", "FastFile"):
            mode = channel["TrainingInputMode"]
            raise JobError(f"channel {name}: input mode {mode} is not supported; use File or FastFile.")
    data = [name for name in config if name != RECIPE]
    if len(data) != 1:
        raise JobError(f"inputdataconfig.json: {len(data)} channels with data; set one, named {DATA!r}.")
    folder = root / "input" / "data"
    return folder / data[0], folder / RECIPE if RECIPE in config else None


def _load(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}  # SageMaker omits the file of an empty section
    except ValueError as error:
        raise JobError(f"{path}: invalid JSON: {error}") from error
    if not isinstance(document, dict):
        raise JobError(f"{path}: contains {type(document).__name__}, expected keys and values.")
    return document


def _text(key: str, value: str) -> str | None:
    """Return a value without the quotes of JSON, which SageMaker's SDK adds; None if it is empty."""
    if value.startswith('"'):
        try:
            value = str(yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise JobError(f"hyperparameters.json: {key} has value {value!r}; invalid YAML: {error}") from error
    return value or None
