"""Training jobs of SageMaker: start one, follow it, and publish its archive in an archive store."""

import hashlib
import json
import re
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from botocore.exceptions import ClientError

from radserve.build import model_store
from radserve.deploy.aws_clients import Cloud, error_code, error_text
from radserve.deploy.errors import SettingsError, TrainingJobError
from radserve.deploy.failure_advice import with_advice
from radserve.store.store import Store, Transfer

METRICS: Final = {
    "training-loss": r"epoch \d+ of \d+: training loss ([0-9.]+)",
    "validation-loss": r"epoch \d+ of \d+: .*validation loss ([0-9.]+)",
    "validation-score": r"epoch \d+ of \d+: .*validation loss [0-9.]+, \w+ ([0-9.]+)",
}
"""Regular expressions with which SageMaker reads metrics from the log (training/epoch_log.py)."""
_NAME: Final = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_ROLE: Final = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/\S+")
_COMPARED: Final = (
    "RoleArn",
    "HyperParameters",
    "AlgorithmSpecification",
    "InputDataConfig",
    "OutputDataConfig",
    "CheckpointConfig",
    "ResourceConfig",
    "StoppingCondition",
    "VpcConfig",
    "EnableManagedSpotTraining",
)
_HOUR: Final = 3600
_POLL: Final = 20.0


@dataclass(frozen=True)
class TrainingJob:
    """A job to start; `parameters` are the hyper-parameters that `training/container.py` reads."""

    model: str
    image: str
    role: str
    data: str
    output: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    recipe: str | None = None
    instance: str = "ml.g5.xlarge"
    volume: int = 50  # GB
    spot: bool = False
    max_hours: int = 24
    max_wait_hours: int | None = None  # of a spot job, including the time without an instance; None for twice max_hours
    checkpoints: str | None = None  # None for a folder below `output`
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        places = {
            "--data": self.data,
            "--output": self.output,
            "--recipe": self.recipe,
            "--checkpoints": self.checkpoints,
        }
        for name, place in places.items():
            if place is not None and not re.fullmatch(r"s3://[^/]+(/.*)?", place):
                raise SettingsError(f"{name} {place}: use s3://BUCKET/PREFIX.")
        if not _ROLE.fullmatch(self.role):
            raise SettingsError(f"--role {self.role}: use the ARN of a role, arn:aws:iam::ACCOUNT:role/NAME.")
        if self.max_wait_hours is not None and not (self.spot and self.max_wait_hours >= self.max_hours):
            raise SettingsError("--max-wait-hours must not be below --max-hours, and needs --spot.")
        if bool(self.subnets) != bool(self.security_groups):
            raise SettingsError("--subnet and --security-group need each other.")

    def default_name(self) -> str:
        """Return a name that is the same for the same job, so that a repeated call finds it."""
        digest = hashlib.sha256(json.dumps(self.request(""), sort_keys=True).encode()).hexdigest()
        return f"radserve-{self.model[:40].rstrip('-')}-{digest[:8]}"

    def request(self, name: str) -> dict[str, Any]:
        """Return the parameters of CreateTrainingJob."""
        channels = {"training": self.data} | ({} if self.recipe is None else {"recipe": self.recipe})
        stop = {"MaxRuntimeInSeconds": self.max_hours * _HOUR}
        if self.spot:
            stop["MaxWaitTimeInSeconds"] = (self.max_wait_hours or 2 * self.max_hours) * _HOUR
        output = self.output.rstrip("/")
        request: dict[str, Any] = {
            "TrainingJobName": name,
            "RoleArn": self.role,
            "HyperParameters": {"model": self.model} | dict(self.parameters),
            "AlgorithmSpecification": {
                "TrainingImage": self.image,
                "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": key, "Regex": text} for key, text in METRICS.items()],
            },
            "InputDataConfig": [_channel(key, url) for key, url in channels.items()],
            "OutputDataConfig": {"S3OutputPath": output},
            "CheckpointConfig": {"S3Uri": self.checkpoints or f"{output}/{name}/checkpoints"},
            "ResourceConfig": {"InstanceType": self.instance, "InstanceCount": 1, "VolumeSizeInGB": self.volume},
            "StoppingCondition": stop,
            "EnableManagedSpotTraining": self.spot,
            "Tags": [{"Key": "radserve:model", "Value": self.model}],
        }
        if self.subnets:
            request["VpcConfig"] = {"Subnets": [*self.subnets], "SecurityGroupIds": [*self.security_groups]}
        return request


@dataclass(frozen=True)
class State:
    """State of a job; `step` is SageMaker's secondary status, `metrics` are the newest values."""

    name: str
    status: str
    step: str
    reason: str
    metrics: Mapping[str, float]
    artifact: str  # s3:// URL of model.tar.gz
    continuation: str  # options of a job that continues this one

    @property
    def is_running(self) -> bool:
        """Whether the job has not ended."""
        return self.status in ("InProgress", "Stopping")


def start(cloud: Cloud, job: TrainingJob, name: str | None = None) -> tuple[State, bool]:
    """Start a job unless it exists; return its state, and whether it is new.

    Raises
    ------
    TrainingJobError
        If a different job has this name.
    """
    name = name or job.default_name()
    if not _NAME.fullmatch(name):
        raise SettingsError(f"--job {name}: use at most 63 letters, digits and hyphens.")
    request = job.request(name)
    existing = _describe(cloud, name)
    if existing is None:
        try:
            cloud.client("sagemaker").create_training_job(**request)
        except ClientError as error:
            if error_code(error) != "ResourceInUse":  # another call created it meanwhile
                raise
        else:
            return _state(_describe(cloud, name) or {"TrainingJobName": name, "TrainingJobStatus": "InProgress"}), True
        existing = _describe(cloud, name)
        assert existing is not None
    if different := _differences(request, existing):
        raise TrainingJobError(f"A different job is named {name} ({', '.join(different)}); choose another --job.")
    return _state(existing), False


def follow(cloud: Cloud, name: str, poll: float = _POLL) -> Iterator[State]:
    """Yield the state of a job, and again whenever it changes, until it is complete.

    Raises
    ------
    TrainingJobError
        If the job does not exist, failed, or was stopped; the message has SageMaker's reason.
    """
    last: State | None = None
    while True:
        document = _describe(cloud, name)
        if document is None:
            raise TrainingJobError(f"No training job {name} in {cloud.region}.")
        state = _state(document)
        if state != last:
            yield state
            last = state
        if not state.is_running:
            require_success(state)
            return
        time.sleep(poll)


def require_success(state: State) -> None:
    """Raise TrainingJobError, with SageMaker's reason, if a job has failed or was stopped."""
    if state.is_running or state.status == "Completed":
        return
    step = f" ({state.step})" if state.step != state.status else ""
    reason = with_advice(f"{state.name}: {state.status}{step}: {state.reason or 'no reason given'}").rstrip(".")
    raise TrainingJobError(
        f"{reason}. The log is in /aws/sagemaker/TrainingJobs. To continue after what is complete, "
        f"choose another --job, with {state.continuation}."
    )


def register(cloud: Cloud, state: State, store: Store) -> Transfer:
    """Publish the archive that a complete job has built.

    Raises
    ------
    TrainingJobError
        If the job's result has no archive.
    """
    bucket, _, key = state.artifact.removeprefix("s3://").partition("/")
    with tempfile.TemporaryDirectory(prefix="radserve-") as scratch:
        folder = Path(scratch)
        packed = folder / "model.tar.gz"
        cloud.s3.download_file(bucket, key, str(packed))
        try:
            with tarfile.open(packed) as file:
                wanted = [item for item in file if re.fullmatch(r"(\./)?([^/]+\.mar|index\.json)", item.name)]
                file.extractall(folder, wanted, filter="data")
        except (tarfile.TarError, EOFError, OSError) as error:
            raise TrainingJobError(f"{state.artifact}: not a readable archive of a training job: {error}") from error
        entries = model_store.read(folder).archives
        if len(entries) != 1:
            raise TrainingJobError(f"{state.artifact}: has {len(entries)} archives, expected one; was it a search?")
        return store.push(entries[0], folder)


def _channel(name: str, url: str) -> dict[str, Any]:
    folder = f"{url.rstrip('/')}/"  # without the slash, the prefix would include other folders, like NAME_old
    source = {"S3DataType": "S3Prefix", "S3Uri": folder, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def _describe(cloud: Cloud, name: str) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = cloud.client("sagemaker").describe_training_job(TrainingJobName=name)
    except ClientError as error:
        if error_code(error) in ("ValidationException", "ValidationError", "ResourceNotFound") and re.search(
            r"not found|could not find", error_text(error), re.IGNORECASE
        ):
            return None
        raise
    return document


def _differences(request: Mapping[str, Any], existing: Mapping[str, Any]) -> list[str]:
    """Return the keys in which an existing job differs from a request, except for the metrics."""
    wanted: dict[str, Any] = {key: request.get(key) or None for key in _COMPARED}
    wanted["AlgorithmSpecification"] = {**request["AlgorithmSpecification"]}
    del wanted["AlgorithmSpecification"]["MetricDefinitions"]
    # SageMaker adds no hyper-parameters, so an additional one is a difference.
    return [
        key
        for key, value in wanted.items()
        if not _agrees(value, existing.get(key) or None)
        or (key == "HyperParameters" and len(value) != len(existing[key]))
    ]


def _agrees(wanted: Any, existing: Any) -> bool:
    """Whether the description of a job has what was requested; SageMaker adds keys with defaults."""
    if isinstance(wanted, dict) and isinstance(existing, dict):
        return all(_agrees(value, existing.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(existing, list):
        return len(wanted) == len(existing) and all(map(_agrees, wanted, existing))
    return bool(wanted == existing)


def _state(document: Mapping[str, Any]) -> State:
    has_storage = "storage" in document.get("HyperParameters", {})  # of a search, which continues in its database
    return State(
        document["TrainingJobName"],
        document["TrainingJobStatus"],
        document.get("SecondaryStatus", ""),
        document.get("FailureReason", ""),
        {item["MetricName"]: item["Value"] for item in document.get("FinalMetricDataList", ())},
        document.get("ModelArtifacts", {}).get("S3ModelArtifacts", ""),
        "the same --storage"
        if has_storage
        else f"--checkpoints {document.get('CheckpointConfig', {}).get('S3Uri', '')}",
    )
