"""`radserve deploy train` with moto's SageMaker and S3; botocore's Stubber plays jobs that take time or fail."""

import io
import re
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import ANY, Stubber

from radserve.build.model_store import Entry
from radserve.deploy import training_job
from radserve.deploy.aws_clients import Cloud
from radserve.deploy.errors import TrainingJobError
from radserve.deploy.training_job import TrainingJob
from radserve.store import open_store
from tests.radserve.deploy.conftest import ACCOUNT, REGION, ROOT, Aws
from tests.radserve.store.archives import make

ROLE = f"arn:aws:iam::{ACCOUNT}:role/training"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/radserve/train:0.1.0"
ARGUMENTS = ("train", "cifar10-lenet", "--data", "s3://films/cifar10", "--output", "s3://jobs/out", "--image", IMAGE,
             "--role", ROLE, "--region", REGION)  # fmt: skip
JOB = TrainingJob("chest", IMAGE, ROLE, "s3://films/chest", "s3://jobs/out")


def test_the_documentation_lists_the_metrics() -> None:
    page = (ROOT / "docs" / "sagemaker.md").read_text()
    for name, expression in training_job.METRICS.items():
        assert re.search(rf"^\| `{name}`.* \| `{re.escape(expression)}` \|$", page, re.MULTILINE), name


def describe(aws: Aws, name: str) -> dict[str, Any]:
    document: dict[str, Any] = aws.client("sagemaker").describe_training_job(TrainingJobName=name)
    return document


def started(output: str) -> str:
    match = re.search(r"^(\S+): started$", output, re.MULTILINE)
    assert match, output
    return match[1]


def test_a_job_is_started_once_with_all_its_settings(aws: Aws) -> None:
    options = ("--set", "epochs=3", "--set", "augmentation.rotation=4", "--version", "1.1.0", "--spot", "--max-hours",
               "2", "--recipe", "s3://films/recipe", "--subnet", "subnet-1", "--security-group", "sg-1")  # fmt: skip
    name = started(aws.deploy(*ARGUMENTS, *options))
    assert re.fullmatch(r"radserve-cifar10-lenet-[0-9a-f]{8}", name)
    assert f"{name}: exists, Completed" in aws.deploy(*ARGUMENTS, *options)
    assert started(aws.deploy(*ARGUMENTS)) != name
    job = describe(aws, name)
    assert job["HyperParameters"] == {
        "model": "cifar10-lenet", "version": "1.1.0", "epochs": "3", "augmentation.rotation": "4",
    }  # fmt: skip
    assert (job["RoleArn"], job["AlgorithmSpecification"]["TrainingImage"]) == (ROLE, IMAGE)
    channels = {item["ChannelName"]: item["DataSource"]["S3DataSource"]["S3Uri"] for item in job["InputDataConfig"]}
    # Without the slash, the prefix would include the folder cifar10_old.
    assert channels == {"training": "s3://films/cifar10/", "recipe": "s3://films/recipe/"}
    assert job["OutputDataConfig"]["S3OutputPath"] == "s3://jobs/out"
    assert job["CheckpointConfig"] == {"S3Uri": f"s3://jobs/out/{name}/checkpoints"}
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 7200, "MaxWaitTimeInSeconds": 14400}
    assert job["EnableManagedSpotTraining"] is True
    assert job["ResourceConfig"] == {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 50}
    assert job["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    tags = aws.client("sagemaker").list_tags(ResourceArn=job["TrainingJobArn"])["Tags"]
    assert tags == [{"Key": "radserve:model", "Value": "cifar10-lenet"}]


def test_a_name_of_another_job_is_rejected(aws: Aws) -> None:
    job = (*ARGUMENTS, "--job", "first")
    aws.deploy(*job, "--set", "epochs=3")
    assert "first: exists, Completed" in aws.deploy(*job, "--set", "epochs=3")
    network = ("--subnet", "subnet-1", "--security-group", "sg-1")
    changes = ("--image", "other", "--max-hours", "2", "--instance", "ml.m5.large", *network, "--spot")
    assert (
        "A different job is named first (HyperParameters, AlgorithmSpecification, ResourceConfig, StoppingCondition, "
        "VpcConfig, EnableManagedSpotTraining)"
    ) in aws.deploy(*job, *changes, code=1)
    aws.deploy(*ARGUMENTS, "--job", "inside", *network)
    assert "A different job is named inside (VpcConfig)" in aws.deploy(*ARGUMENTS, "--job", "inside", code=1)


def test_a_repeated_call_for_a_failed_job_fails(aws: Aws) -> None:
    job = (*ARGUMENTS, "--job", "lost")
    aws.deploy(*job, code=1)  # moto's job fails at once
    output = aws.deploy(*job, code=1)
    assert "lost: exists, Failed" in output
    assert "lost: Failed: InternalServerError. " in output
    assert "--checkpoints s3://jobs/out/lost/checkpoints." in output


def test_all_jobs_of_a_search_are_followed_before_one_that_failed_is_reported(aws: Aws) -> None:
    search = ("--trials", "4", "--jobs", "2", "--storage", "mysql+pymysql://optuna@db/radserve")
    output = aws.deploy(*ARGUMENTS, *search, "--job", "lost", "--checkpoints", "s3://jobs/kept/", "--wait", code=1)
    assert "lost-2: Completed" in output
    assert "lost-1: Failed: InternalServerError. " in output
    assert output.rstrip().endswith("choose another --job, with the same --storage.")
    urls = [describe(aws, name)["CheckpointConfig"]["S3Uri"] for name in ("lost-1", "lost-2")]
    assert urls == ["s3://jobs/kept/lost-1", "s3://jobs/kept/lost-2"]


def test_a_search_starts_several_jobs_on_one_storage(aws: Aws) -> None:
    storage = "mysql+pymysql://optuna@db/radserve"
    output = aws.deploy(*ARGUMENTS, "--trials", "40", "--jobs", "2", "--storage", storage)
    names = re.findall(r"^(\S+): started$", output, re.MULTILINE)
    assert [name[-2:] for name in names] == ["-1", "-2"]
    for name in names:
        job = describe(aws, name)
        assert job["HyperParameters"] == {"model": "cifar10-lenet", "trials": "40", "storage": storage}
        assert job["CheckpointConfig"]["S3Uri"].endswith(f"{name}/checkpoints")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--data", "films"), "--data films: use s3://BUCKET/PREFIX."),
        (("--role", "training"), "--role training: use the ARN of a role"),
        (("--job", "a_b"), "--job a_b: use at most 63 letters"),
        (("--set", "epochs"), "--set epochs: expected key=value."),
        (("--set", "epoch=3"), "unknown key 'epoch'"),
        (("--set", "model=chest"), "--set model=chest: 'model' is reserved"),
        (("--set", "trials=3"), "--set trials=3: 'trials' is reserved"),
        (("--set", "_seed=3"), "--set _seed=3: '_seed' is reserved"),
        (("--set", "sagemaker_region=x"), "--set sagemaker_region=x: 'sagemaker_region' is reserved"),
        (("--max-wait-hours", "30"), "--max-wait-hours must not be below --max-hours, and needs --spot."),
        (("--subnet", "subnet-1"), "--subnet and --security-group need each other."),
        (("--jobs", "2"), "add --trials"),
        (("--trials", "4", "--jobs", "2"), "--jobs needs --storage"),
        (("--trials", "4", "--register", "store"), "A search has no archive"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_invalid_options_start_nothing(aws: Aws, options: tuple[str, ...], message: str) -> None:
    assert message in aws.deploy(*ARGUMENTS, *options, code=2)
    assert aws.client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []


@pytest.fixture
def result(aws: Aws, tmp_path: Path) -> tuple[str, Entry]:
    """Start a job, and upload its result as SageMaker would; return its name and the archive's entry."""
    name = started(aws.deploy(*ARGUMENTS))
    entry = make(tmp_path / "model")
    (tmp_path / "model" / "chest").mkdir()
    (tmp_path / "model" / "chest" / "metrics.json").write_text("{}")
    upload(aws, name, tmp_path / "model")
    return name, entry


def upload(aws: Aws, name: str, folder: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        file.add(folder, ".")
    aws.client("s3").create_bucket(Bucket="jobs", CreateBucketConfiguration={"LocationConstraint": REGION})
    aws.client("s3").put_object(Bucket="jobs", Key=f"out/{name}/output/model.tar.gz", Body=packed.getvalue())


def test_the_result_is_published_once(aws: Aws, result: tuple[str, Entry], tmp_path: Path) -> None:
    name, entry = result
    store = str(tmp_path / "store")
    output = aws.deploy(*ARGUMENTS, "--register", store)
    assert f"{name}: Completed  train:progress 100.0000" in output
    assert f"chest 1.0.0  published in {store}  sha256 {entry.sha256}" in output
    assert [item.sha256 for item in open_store(store).entries()] == [entry.sha256]
    assert "already published" in aws.deploy(*ARGUMENTS, "--register", store)
    # With the region of the option.
    assert "published in s3://jobs/store" in aws.deploy(*ARGUMENTS, "--register", "s3://jobs/store")


def test_a_result_without_archive_is_rejected(aws: Aws, tmp_path: Path) -> None:
    name = started(aws.deploy(*ARGUMENTS))
    (tmp_path / "model").mkdir()
    upload(aws, name, tmp_path / "model")
    assert "has 0 archives, expected one" in aws.deploy(*ARGUMENTS, "--register", str(tmp_path / "store"), code=1)
    aws.client("s3").put_object(Bucket="jobs", Key=f"out/{name}/output/model.tar.gz", Body=b"nothing")
    assert "not a readable archive" in aws.deploy(*ARGUMENTS, "--register", str(tmp_path / "store"), code=1)
    aws.client("s3").delete_object(Bucket="jobs", Key=f"out/{name}/output/model.tar.gz")
    assert "radserve: HeadObject: Not Found" in aws.deploy(*ARGUMENTS, "--register", str(tmp_path / "store"), code=1)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Cloud, Stubber]]:
    """Return clients whose SageMaker has the responses that a test adds."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    cloud = Cloud(REGION)
    with Stubber(cloud.client("sagemaker")) as stubber:
        yield cloud, stubber
        stubber.assert_no_pending_responses()


def described(step: str, status: str = "InProgress", **more: Any) -> dict[str, Any]:
    return {
        "TrainingJobName": "job",
        "TrainingJobArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/job",
        "TrainingJobStatus": status,
        "SecondaryStatus": step,
        "ModelArtifacts": {"S3ModelArtifacts": "s3://jobs/out/job/output/model.tar.gz"},
        "StoppingCondition": {},
        "CreationTime": datetime.now(UTC),
        "AlgorithmSpecification": {"TrainingInputMode": "File"},
        "ResourceConfig": {"VolumeSizeInGB": 50},
        **more,
    }


def metric(value: float) -> list[dict[str, Any]]:
    return [{"MetricName": "validation-score", "Value": value, "Timestamp": datetime.now(UTC)}]


def test_a_job_is_followed_through_an_interruption(stub: tuple[Cloud, Stubber]) -> None:
    cloud, stubber = stub
    for document in (
        described("Starting"),
        described("Training", FinalMetricDataList=metric(0.5)),
        described("Training", FinalMetricDataList=metric(0.5)),
        described("Interrupted", FinalMetricDataList=metric(0.5)),
        described("Training", FinalMetricDataList=metric(0.75)),
        described("Completed", "Completed", FinalMetricDataList=metric(0.75)),
    ):
        stubber.add_response("describe_training_job", document, {"TrainingJobName": "job"})
    states = list(training_job.follow(cloud, "job", poll=0))
    assert [(state.step, state.metrics.get("validation-score")) for state in states] == [
        ("Starting", None), ("Training", 0.5), ("Interrupted", 0.5), ("Training", 0.75), ("Completed", 0.75),
    ]  # fmt: skip


def test_a_failed_job_says_why_and_how_to_continue(stub: tuple[Cloud, Stubber]) -> None:
    cloud, stubber = stub
    checkpoints = {"S3Uri": "s3://jobs/out/job/checkpoints"}
    reason = "AlgorithmError: RunError: no images"
    stubber.add_response(
        "describe_training_job", described("Failed", "Failed", FailureReason=reason, CheckpointConfig=checkpoints)
    )
    with pytest.raises(
        TrainingJobError, match=rf"job: Failed: {reason}\. .*--checkpoints s3://jobs/out/job/checkpoints"
    ):
        list(training_job.follow(cloud, "job", poll=0))
    stubber.add_response("describe_training_job", described("MaxRuntimeExceeded", "Stopped"))
    with pytest.raises(TrainingJobError, match=r"job: Stopped \(MaxRuntimeExceeded\): no reason given"):
        list(training_job.follow(cloud, "job", poll=0))


def test_two_calls_at_once_start_one_job(stub: tuple[Cloud, Stubber]) -> None:
    cloud, stubber = stub
    name = JOB.default_name()
    request = JOB.request(name)
    stubber.add_client_error("describe_training_job", "ValidationException", "Requested resource not found.")
    stubber.add_client_error("create_training_job", "ResourceInUse", expected_params=dict.fromkeys(request, ANY))
    existing = {key: value for key, value in request.items() if key != "Tags"}
    existing |= {"CheckpointConfig": {"LocalPath": "/opt/ml/checkpoints"} | request["CheckpointConfig"]}
    stubber.add_response("describe_training_job", described("Starting") | existing)
    state, is_new = training_job.start(cloud, JOB)
    assert (state.status, is_new) == ("InProgress", False)
