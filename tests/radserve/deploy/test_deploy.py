"""The real command against moto's real server; moto_server.py says what of AWS that leaves out."""

from __future__ import annotations

import json
import re

import pytest

from radserve.deploy import stacks, template
from radserve.deploy.settings import StackName, load
from tests.radserve.deploy.conftest import REGION, ROOT, Aws

EXAMPLE = ROOT / "radserve" / "deploy" / "templates" / "example.yaml"

HOST = f"""
environment: small
region: {REGION}
home: host
tags: {{owner: radiology}}
parameters:
  network: {{Egress: endpoints}}
  host:
    CertificateSecretArn: arn:aws:secretsmanager:{REGION}:123456789012:secret:certificate-AbCdEf
    ImageTag: 0.10
    ModelPrefix: releases/1
    InstanceType: g5.xlarge
"""
STORAGE = f"environment: demo\nregion: {REGION}\n"


def service(aws: Aws) -> list[str]:
    """Return the words that name the example's environment."""
    return [str(EXAMPLE), "--set", f"service.CertificateArn={aws.certificate()}"]


def stack_names(aws: Aws) -> list[str]:
    """List the stacks that there are."""
    return sorted(item["StackName"] for item in aws.client("cloudformation").describe_stacks()["Stacks"])


def resources(aws: Aws, name: str) -> dict[str, str]:
    """Return types by logical ID of what a stack has."""
    found = aws.client("cloudformation").list_stack_resources(StackName=name)["StackResourceSummaries"]
    return {item["LogicalResourceId"]: item["ResourceType"] for item in found if item["LogicalResourceId"]}


def test_a_plan_names_changes_and_costs_and_leaves_nothing_behind(aws: Aws) -> None:
    said = aws.deploy("plan", *service(aws))
    for name in ("radserve-demo-storage: create", "radserve-demo-service: create", "radserve-demo-monitoring: create"):
        assert name in said
    assert "Balancer" in said
    assert "1 x NAT gateway: by the hour, and by GB through it" in said
    assert "1 x load balancer: by the hour" in said
    assert "interface endpoint" not in said
    assert stack_names(aws) == []


def test_a_service_is_created_updated_and_deleted(aws: Aws) -> None:
    words = service(aws)
    said = aws.deploy("apply", *words, "--yes")
    assert said.rstrip().endswith("Done.")
    names = [f"radserve-demo-{stack}" for stack in ("monitoring", "network", "secrets", "service", "storage")]
    assert stack_names(aws) == names

    said = aws.deploy("apply", *words, "--yes")
    assert said.count(": unchanged") == len(names)
    assert said.rstrip().endswith("Nothing to change.")

    said = aws.deploy("apply", *words, "--yes", "--set", "service.MaxTasks=3")
    assert "radserve-demo-service is UPDATE_COMPLETE." in said
    assert said.count(": unchanged") == len(names) - 1
    found = aws.client("cloudformation").describe_stacks(StackName="radserve-demo-service")["Stacks"][0]
    assert {"ParameterKey": "MaxTasks", "ParameterValue": "3"} in found["Parameters"]
    assert "Nothing to change." in aws.deploy("apply", *words, "--yes", "--set", "service.MaxTasks=3")

    said = aws.deploy("destroy", *words, "--yes")
    assert said.index("delete radserve-demo-monitoring") < said.index("delete radserve-demo-service")
    assert said.index("delete radserve-demo-service") < said.index("delete radserve-demo-network")
    assert stack_names(aws) == ["radserve-demo-secrets", "radserve-demo-storage"]
    assert [item for item in aws.client("ec2").describe_vpcs()["Vpcs"] if not item["IsDefault"]] == []


def test_a_single_host_is_created_and_deleted_with_its_data(aws: Aws) -> None:
    path = aws.file(HOST)
    aws.deploy("apply", str(path), "--yes")
    reservation = aws.client("ec2").describe_instances()["Reservations"]
    assert [item["InstanceType"] for found in reservation for item in found["Instances"]] == ["g5.xlarge"]

    aws.deploy("destroy", str(path), "--yes", "--delete-data", "--confirm", "small")
    assert stack_names(aws) == []
    assert aws.client("s3").list_buckets()["Buckets"] == []
    assert aws.client("ecr").describe_repositories()["repositories"] == []


@pytest.mark.parametrize("home", ["service", "host"])
def test_what_a_plan_shows_before_anything_is_there_is_what_is_made(aws: Aws, home: str) -> None:
    path = aws.file(HOST) if home == "host" else EXAMPLE
    words = [str(path)] if home == "host" else service(aws)
    settings = load(path, words[2:])
    shown: dict[StackName, dict[str, str]] = {}
    for stack in stacks.chosen(settings):
        found = template.load(stack)
        values = stacks.values(found, settings, {})
        shown[stack] = {name: item["Type"] for name, item in found.resources(values.all()).items()}
    aws.deploy("apply", *words, "--yes")
    for stack, expected in shown.items():
        assert resources(aws, stacks.name(settings.environment, stack)) == expected


def test_everything_of_a_stack_carries_the_environments_tags(aws: Aws) -> None:
    aws.deploy("apply", str(aws.file(HOST)), "--yes", "--stack", "storage")
    (found,) = aws.client("cloudformation").describe_stacks()["Stacks"]
    assert found["Tags"] == [
        {"Key": "owner", "Value": "radiology"},
        {"Key": "radserve:environment", "Value": "small"},
    ]


def test_without_a_yes_nothing_is_changed(aws: Aws) -> None:
    said = aws.deploy("apply", str(aws.file(STORAGE)), "--stack", "storage", answer="n\n", code=1)
    assert "Do this?" in said
    assert stack_names(aws) == []


def test_what_was_not_in_the_plan_is_asked_about(aws: Aws) -> None:
    # moto's change sets list resources whose condition is not met, which the plan from the template does not.
    words = [str(aws.file(STORAGE)), "--stack", "storage", "--stack", "network"]
    said = aws.deploy("apply", *words, answer="y\nn\n", code=1)
    assert "radserve-demo-network: these changes show only now" in said
    assert "EndpointGroup" in said
    # The empty stack that the change set came with is gone as well.
    assert stack_names(aws) == ["radserve-demo-storage"]


def test_what_a_broken_creation_left_is_removed_and_made_anew(aws: Aws) -> None:
    # moto rolls nothing back: test_failures.py has ROLLBACK_COMPLETE.
    path = aws.file(STORAGE)
    aws.client("cloudformation").create_change_set(
        StackName="radserve-demo-storage",
        ChangeSetName="left",
        ChangeSetType="CREATE",
        TemplateBody=template.load("storage").body,
        Parameters=[{"ParameterKey": "Environment", "ParameterValue": "demo"}],
    )
    assert "REVIEW_IN_PROGRESS, nothing in it" in aws.deploy("plan", str(path), "--stack", "storage")
    aws.deploy("apply", str(path), "--stack", "storage", "--yes")
    (found,) = aws.client("cloudformation").describe_stacks()["Stacks"]
    assert found["StackStatus"] == "CREATE_COMPLETE"


def test_protected_stacks_are_not_destroyed_until_the_file_says_so(aws: Aws) -> None:
    path = str(aws.file(STORAGE))
    words = [path, "--stack", "storage", "--yes"]
    aws.deploy("apply", *words, "--set", "termination_protection=true")
    said = aws.deploy("destroy", *words, "--delete-data", "--confirm", "demo", code=1)
    assert "radserve-demo-storage has termination protection. Set termination_protection to false" in said
    assert stack_names(aws) == ["radserve-demo-storage"]
    aws.deploy("apply", *words)
    aws.deploy("destroy", *words, "--delete-data", "--confirm", "demo")
    assert stack_names(aws) == []


def test_data_are_deleted_only_with_the_environments_name(aws: Aws) -> None:
    path = str(aws.file(STORAGE))
    aws.deploy("apply", path, "--stack", "storage", "--yes")
    s3 = aws.client("s3")
    bucket = "radserve-demo-models-123456789012-eu-central-1"
    # What the template says as well, but moto's CloudFormation does not take from it.
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for _ in range(2):
        s3.put_object(Bucket=bucket, Key="model_store/index.json", Body=b"{}")
    s3.delete_object(Bucket=bucket, Key="model_store/index.json")
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": kind, "config": {"digest": "sha256:" + "0" * 64}, "layers": []}
    )
    aws.client("ecr").put_image(repositoryName="radserve/server", imageManifest=manifest, imageTag="0.1.0")

    assert "Nothing to delete." in aws.deploy("destroy", path, "--yes")
    assert "--confirm demo" in aws.deploy("destroy", path, "--yes", "--delete-data", code=2)
    aws.deploy("destroy", path, "--delete-data", answer="y\nwrong\n", code=2)
    assert stack_names(aws) == ["radserve-demo-storage"]
    assert s3.list_object_versions(Bucket=bucket)["Versions"]

    said = aws.deploy("destroy", path, "--delete-data", answer="y\ndemo\n")
    assert f"{bucket}: 3 objects and old versions deleted" in said
    assert "radserve/server: 1 images deleted" in said
    assert s3.list_buckets()["Buckets"] == []
    assert re.search(r"key [0-9a-f-]+: deleted for good in 30 days", said)


def test_the_network_is_not_taken_from_under_the_service(aws: Aws) -> None:
    words = service(aws)
    aws.deploy("apply", *words, "--yes")
    said = aws.deploy("destroy", *words, "--yes", "--stack", "network", code=1)
    assert "radserve-demo-network is needed by service: destroy that too." in said


def test_one_environment_has_one_home(aws: Aws) -> None:
    path = aws.file(HOST)
    aws.deploy("apply", str(path), "--yes")
    other = aws.folder / "other.yaml"
    other.write_text(f"environment: small\nregion: {REGION}\n", encoding="utf-8")
    said = aws.deploy("plan", str(other), "--stack", "storage", code=1)
    assert "radserve-small-host is there, but the home of small is service" in said


def test_a_stack_waits_for_those_that_it_needs(aws: Aws) -> None:
    said = aws.deploy("apply", str(aws.file(STORAGE)), "--stack", "network", "--yes", code=1)
    assert "network needs KeyArn of stacks that are not there: apply those first." in said
    assert stack_names(aws) == []


def test_status_is_a_table_and_json(aws: Aws) -> None:
    path = str(aws.file(STORAGE))
    assert "demo has no stack." in aws.deploy("status", path)
    aws.deploy("apply", path, "--stack", "storage", "--yes")
    assert "radserve-demo-models-123456789012-eu-central-1" in aws.deploy("status", path)
    (found,) = json.loads(aws.deploy("status", path, "--json"))["stacks"]
    assert found["status"] == "CREATE_COMPLETE"
    assert found["outputs"]["ServerRepository"] == f"123456789012.dkr.ecr.{REGION}.amazonaws.com/radserve/server"


def test_missing_credentials_are_one_line(aws: Aws) -> None:
    said = aws.deploy("status", str(aws.file(STORAGE)), code=1, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    assert said.startswith("radserve: no AWS credentials were found.")
    assert said.count("\n") == 1


def test_an_unknown_profile_is_one_line(aws: Aws) -> None:
    said = aws.deploy("status", str(aws.file(STORAGE)), "--profile", "nobody", code=1)
    assert said.startswith("radserve: The config profile (nobody) could not be found.")


def test_an_endpoint_that_is_not_there_is_one_line(aws: Aws) -> None:
    said = aws.deploy(
        "status", str(aws.file(STORAGE)), code=1, AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_MAX_ATTEMPTS="1"
    )
    assert "Could not connect to the endpoint URL" in said
    assert said.count("\n") == 1


def test_a_wrong_parameter_is_refused_before_aws_is_asked_to_change(aws: Aws) -> None:
    path = str(aws.file(STORAGE))
    said = aws.deploy("apply", path, "--yes", "--set", "network.Egress=open", code=2)
    assert "network.Egress has value 'open': it must be one of one-nat, two-nats, endpoints." in said
    assert stack_names(aws) == []
