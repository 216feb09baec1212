"""`radserve deploy` against moto's server; moto_server.py documents its limits."""

import json
import re
from pathlib import Path

import pytest

from radserve.deploy import parameters, template
from radserve.deploy.settings import StackName, load
from tests.radserve.deploy.conftest import REGION, ROOT, Aws

EXAMPLE = ROOT / "radserve" / "deploy" / "example-environment.yaml"

HOST = f"""
environment: small
region: {REGION}
home: host
tags: {{owner: radiology}}
parameters:
  network: {{Egress: endpoints}}
  host:
    CertificateSecretArn: arn:aws:secretsmanager:{REGION}:123456789012:secret:certificate-AbCdEf
    AllowedCidr: 203.0.113.0/24
    ImageTag: 0.10
    ModelPrefix: releases/1
    InstanceType: g5.xlarge
"""
STORAGE = f"environment: demo\nregion: {REGION}\n"


def service(aws: Aws) -> list[str]:
    """Return the arguments for the example's environment."""
    return [str(EXAMPLE), "--set", f"service.CertificateArn={aws.certificate()}"]


def prepared_service(aws: Aws) -> list[str]:
    """Provide what the example's environment needs, and return its arguments."""
    arguments = service(aws)
    aws.provide(*arguments)
    return arguments


def prepared_host(aws: Aws) -> list[str]:
    """Provide what the host's environment needs, and return its arguments."""
    secret = aws.client("secretsmanager").create_secret(Name="certificate", SecretString="{}")
    arguments = [str(aws.file(HOST)), "--set", f"host.CertificateSecretArn={secret['ARN']}"]
    aws.provide(*arguments, target="server", tag="0.10")
    return arguments


def stack_names(aws: Aws) -> list[str]:
    """List the names of all stacks."""
    return sorted(item["StackName"] for item in aws.client("cloudformation").describe_stacks()["Stacks"])


def resources(aws: Aws, name: str) -> dict[str, str]:
    """Return the types of a stack's resources by logical ID."""
    summaries = aws.client("cloudformation").list_stack_resources(StackName=name)["StackResourceSummaries"]
    return {item["LogicalResourceId"]: item["ResourceType"] for item in summaries if item["LogicalResourceId"]}


def test_plan_lists_changes_and_costs_and_creates_nothing(aws: Aws) -> None:
    output = aws.deploy("plan", *service(aws))
    for name in ("radserve-demo-storage: create", "radserve-demo-service: create", "radserve-demo-monitoring: create"):
        assert name in output
    assert "Balancer" in output
    assert "1 x NAT gateway: per hour and GB" in output
    assert "1 x load balancer: per hour" in output
    assert "interface endpoint" not in output
    assert stack_names(aws) == []


def test_service_is_created_updated_and_deleted(aws: Aws) -> None:
    arguments = prepared_service(aws)
    output = aws.deploy("apply", *arguments, "--yes")
    assert output.rstrip().endswith("Done.")
    stacks = ("monitoring", "network", "prometheus", "secrets", "service", "storage")
    names = [f"radserve-demo-{stack}" for stack in stacks]
    assert stack_names(aws) == names

    output = aws.deploy("apply", *arguments, "--yes")
    assert output.count(": unchanged") == len(names)
    assert output.rstrip().endswith("Nothing to change.")

    output = aws.deploy("apply", *arguments, "--yes", "--set", "service.MaxTasks=6")
    assert "radserve-demo-service is UPDATE_COMPLETE." in output
    assert output.count(": unchanged") == len(names) - 1
    stack = aws.client("cloudformation").describe_stacks(StackName="radserve-demo-service")["Stacks"][0]
    assert {"ParameterKey": "MaxTasks", "ParameterValue": "6"} in stack["Parameters"]
    assert "Nothing to change." in aws.deploy("apply", *arguments, "--yes", "--set", "service.MaxTasks=6")

    output = aws.deploy("destroy", *arguments, "--yes")
    assert output.index("delete radserve-demo-monitoring") < output.index("delete radserve-demo-service")
    assert output.index("delete radserve-demo-service") < output.index("delete radserve-demo-network")
    assert stack_names(aws) == ["radserve-demo-secrets", "radserve-demo-storage"]
    assert [item for item in aws.client("ec2").describe_vpcs()["Vpcs"] if not item["IsDefault"]] == []


def test_host_is_created_and_deleted_with_its_data(aws: Aws) -> None:
    arguments = prepared_host(aws)
    aws.deploy("apply", *arguments, "--yes")
    reservations = aws.client("ec2").describe_instances()["Reservations"]
    assert [item["InstanceType"] for entry in reservations for item in entry["Instances"]] == ["g5.xlarge"]

    aws.deploy("destroy", *arguments, "--yes", "--delete-data", "--confirm", "small")
    assert stack_names(aws) == []
    assert aws.client("s3").list_buckets()["Buckets"] == []
    assert aws.client("ecr").describe_repositories()["repositories"] == []


@pytest.mark.parametrize("home", ["service", "host"])
def test_resources_planned_from_templates_match_those_created(aws: Aws, home: str) -> None:
    arguments = prepared_host(aws) if home == "host" else prepared_service(aws)
    settings = load(Path(arguments[0]), arguments[2:])
    planned: dict[StackName, dict[str, str]] = {}
    for stack in settings.stacks():
        loaded = template.load(stack)
        values = parameters.resolve(loaded, settings, {})
        planned[stack] = {name: item["Type"] for name, item in loaded.resources(values.all()).items()}
    aws.deploy("apply", *arguments, "--yes")
    for stack, expected in planned.items():
        assert resources(aws, settings.stack_name(stack)) == expected


def test_stack_has_the_environments_tags(aws: Aws) -> None:
    aws.deploy("apply", str(aws.file(HOST)), "--yes", "--stack", "storage")
    (stack,) = aws.client("cloudformation").describe_stacks()["Stacks"]
    assert stack["Tags"] == [
        {"Key": "owner", "Value": "radiology"},
        {"Key": "radserve:environment", "Value": "small"},
    ]


def test_declined_confirmation_changes_nothing(aws: Aws) -> None:
    output = aws.deploy("apply", str(aws.file(STORAGE)), "--stack", "storage", answer="n\n", code=1)
    assert "Apply these changes?" in output
    assert stack_names(aws) == []


def test_unplanned_changes_need_a_second_confirmation(aws: Aws) -> None:
    # Change sets of moto list resources whose condition is not met; the plan from the template does not.
    arguments = [str(aws.file(STORAGE)), "--stack", "storage", "--stack", "network"]
    output = aws.deploy("apply", *arguments, answer="y\nn\n", code=1)
    assert "radserve-demo-network: changes that were not in the plan" in output
    assert "EndpointGroup" in output
    # The empty stack that CloudFormation adds with the change set is deleted as well.
    assert stack_names(aws) == ["radserve-demo-storage"]


def test_empty_stack_of_an_interrupted_creation_is_replaced(aws: Aws) -> None:
    # moto never rolls back: test_stack.py covers ROLLBACK_COMPLETE.
    path = aws.file(STORAGE)
    aws.client("cloudformation").create_change_set(
        StackName="radserve-demo-storage",
        ChangeSetName="left",
        ChangeSetType="CREATE",
        TemplateBody=template.load("storage").body,
        Parameters=[{"ParameterKey": "Environment", "ParameterValue": "demo"}],
    )
    assert "the empty stack of an earlier creation (REVIEW_IN_PROGRESS) is deleted first" in aws.deploy(
        "plan", str(path), "--stack", "storage"
    )
    aws.deploy("apply", str(path), "--stack", "storage", "--yes")
    (stack,) = aws.client("cloudformation").describe_stacks()["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"


def test_protected_stack_is_destroyed_only_after_protection_is_removed(aws: Aws) -> None:
    path = str(aws.file(STORAGE))
    arguments = [path, "--stack", "storage", "--yes"]
    aws.deploy("apply", *arguments, "--set", "termination_protection=true")
    output = aws.deploy("destroy", *arguments, "--delete-data", "--confirm", "demo", code=1)
    assert "radserve-demo-storage has termination protection. Set termination_protection to false" in output
    assert stack_names(aws) == ["radserve-demo-storage"]
    aws.deploy("apply", *arguments)
    aws.deploy("destroy", *arguments, "--delete-data", "--confirm", "demo")
    assert stack_names(aws) == []


def test_deleting_data_requires_the_environments_name(aws: Aws) -> None:
    path = str(aws.file(STORAGE))
    aws.deploy("apply", path, "--stack", "storage", "--yes")
    s3 = aws.client("s3")
    bucket = "radserve-demo-models-123456789012-eu-central-1"
    # The template enables it too, but moto's CloudFormation ignores that.
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

    output = aws.deploy("destroy", path, "--delete-data", answer="y\ndemo\n")
    assert f"{bucket}: 3 objects and old versions deleted" in output
    assert "radserve/server: deleted with all images" in output
    assert s3.list_buckets()["Buckets"] == []
    assert re.search(r"key [0-9a-f-]+: permanently deleted in 30 days", output)


def test_stack_with_dependents_is_not_destroyed(aws: Aws) -> None:
    arguments = prepared_service(aws)
    aws.deploy("apply", *arguments, "--yes")
    output = aws.deploy("destroy", *arguments, "--yes", "--stack", "network", code=1)
    assert "radserve-demo-network is needed by service: destroy that too." in output


def test_second_home_of_an_environment_is_rejected(aws: Aws) -> None:
    aws.deploy("apply", *prepared_host(aws), "--yes")
    other = aws.folder / "other.yaml"
    other.write_text(f"environment: small\nregion: {REGION}\n", encoding="utf-8")
    output = aws.deploy("plan", str(other), "--stack", "storage", code=1)
    assert "radserve-small-host exists, but the home of small is service" in output


def test_stack_needs_outputs_of_earlier_stacks(aws: Aws) -> None:
    output = aws.deploy("apply", str(aws.file(STORAGE)), "--stack", "network", "--yes", code=1)
    assert "network needs KeyArn of stacks that do not exist: apply those first." in output
    assert stack_names(aws) == []


def test_status_prints_a_table_or_json(aws: Aws) -> None:
    path = str(aws.file(STORAGE))
    assert "demo has no stacks." in aws.deploy("status", path)
    aws.deploy("apply", path, "--stack", "storage", "--yes")
    assert "radserve-demo-models-123456789012-eu-central-1" in aws.deploy("status", path)
    (stack,) = json.loads(aws.deploy("status", path, "--json"))["stacks"]
    assert stack["status"] == "CREATE_COMPLETE"
    assert stack["outputs"]["ServerRepository"] == f"123456789012.dkr.ecr.{REGION}.amazonaws.com/radserve/server"


def test_missing_credentials_give_a_one_line_error(aws: Aws) -> None:
    output = aws.deploy_process(
        "status", str(aws.file(STORAGE)), code=1, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY=""
    )
    assert output.startswith("radserve: No AWS credentials found.")
    assert output.count("\n") == 1


def test_unknown_profile_gives_a_one_line_error(aws: Aws) -> None:
    output = aws.deploy("status", str(aws.file(STORAGE)), "--profile", "missing", code=1)
    assert output.startswith("radserve: The config profile (missing) could not be found.")


def test_unreachable_endpoint_gives_a_one_line_error(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _seconds: None)  # between attempts
    output = aws.deploy(
        "status", str(aws.file(STORAGE)), code=1, AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_MAX_ATTEMPTS="1"
    )
    assert "Could not connect to the endpoint URL" in output
    assert output.count("\n") == 1


def test_invalid_parameter_is_rejected_before_any_change(aws: Aws) -> None:
    path = str(aws.file(STORAGE))
    output = aws.deploy("apply", path, "--yes", "--set", "network.Egress=open", code=2)
    assert "network.Egress has value 'open': it must be one of one-nat, two-nats, endpoints." in output
    assert stack_names(aws) == []
