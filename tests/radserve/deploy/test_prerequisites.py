"""What `radserve deploy apply` checks before it creates anything, against moto's server."""

import re
from typing import Any

import pytest
from botocore.stub import Stubber

from radserve.deploy.aws_clients import Cloud
from radserve.deploy.prerequisites import find
from radserve.deploy.template import load
from tests.radserve.deploy.conftest import ACCOUNT, REGION, Aws
from tests.radserve.deploy.quotas import QUOTAS
from tests.radserve.deploy.test_deploy import EXAMPLE, prepared_host, prepared_service, service, stack_names

CREATED = ["radserve-demo-secrets", "radserve-demo-storage"]


def rejected(aws: Aws, *arguments: str) -> str:
    """Apply an environment, check that nothing is created, and return the error."""
    before = stack_names(aws)
    output = aws.deploy("apply", *arguments, "--yes", code=1)
    assert stack_names(aws) == before
    (error,) = [line for line in output.splitlines() if line.startswith("radserve: ")]
    assert error.startswith("radserve: Nothing was changed. ")
    return error


def parameters(aws: Aws, stack: str) -> dict[str, str]:
    """Return the parameters of a stack."""
    (item,) = aws.client("cloudformation").describe_stacks(StackName=f"radserve-{stack}")["Stacks"]
    return {entry["ParameterKey"]: entry["ParameterValue"] for entry in item["Parameters"]}


def task(aws: Aws) -> dict[str, Any]:
    """Return the newest task definition."""
    ecs = aws.client("ecs")
    arns = ecs.list_task_definitions(sort="DESC")["taskDefinitionArns"]
    return dict(ecs.describe_task_definition(taskDefinition=arns[0])["taskDefinition"])


def test_first_apply_of_a_whole_environment_says_what_to_create_first(aws: Aws) -> None:
    error = rejected(aws, *service(aws))
    assert "service.ImageTag: the repository of image 0.1.0 does not exist. Create it first: radserve deploy" in error
    assert "service.ApiKeysArn: the secret of the API keys does not exist." in error


def test_missing_tag_is_rejected_with_the_command_that_pushes_it(aws: Aws) -> None:
    arguments = prepared_service(aws)
    error = rejected(aws, *arguments, "--set", "service.ImageTag=9.9.9")
    registry = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
    assert f"service.ImageTag: {registry}/radserve/server-cpu has no image 9.9.9. Push it: " in error
    assert f"scripts/push-images {registry} server-cpu" in error
    # A tag of the other image does not count.
    assert "radserve/server has no image 0.1.0" in rejected(aws, *arguments, "--set", "service.InstanceType=g5.xlarge")


def test_tag_with_another_digest_is_rejected(aws: Aws) -> None:
    arguments = prepared_service(aws)
    digest = f"sha256:{'0' * 64}"
    assert f"with digest {digest}" in rejected(aws, *arguments, "--set", f"service.ImageDigest={digest}")


def test_plan_lists_missing_prerequisites_and_succeeds(aws: Aws) -> None:
    output = aws.deploy("plan", *service(aws))
    assert "missing: service.ImageTag: the repository" in output
    assert "radserve-demo-service: create" in output


def test_stacks_without_a_server_need_nothing(aws: Aws) -> None:
    aws.deploy("apply", *service(aws), "--stack", "storage", "--stack", "secrets", "--yes")
    assert stack_names(aws) == CREATED


@pytest.mark.parametrize(
    ("create", "message"),
    [
        ("pending", r"the certificate is not issued yet\. Create its DNS record: aws acm describe-certificate"),
        ("missing", r"ACM has no certificate arn:.* in this account\. Request or import one"),
        ("elsewhere", r"the certificate is in us-east-1\. Use one in eu-central-1, like the environment\."),
    ],
)
def test_unusable_certificate_is_rejected(aws: Aws, create: str, message: str) -> None:
    arguments = prepared_service(aws)
    arn = f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/00000000-0000-0000-0000-000000000000"
    if create == "pending":
        arn = aws.client("acm").request_certificate(DomainName="radserve.example.org")["CertificateArn"]
    elif create == "elsewhere":
        arn = aws.certificate().replace(REGION, "us-east-1")
    error = rejected(aws, *arguments, "--set", f"service.CertificateArn={arn}")
    assert re.search(rf"service\.CertificateArn: {message}", error)


def test_secret_without_keys_is_rejected(aws: Aws) -> None:
    arguments = service(aws)
    aws.deploy("apply", *arguments, "--stack", "storage", "--stack", "secrets", "--yes")
    aws.push("server-cpu", "0.1.0")
    error = rejected(aws, *arguments)
    assert "service.ApiKeysArn: the secret has no API keys. Store some: aws secretsmanager put-secret-value" in error
    assert "--secret-id radserve/demo/api-keys" in error


def test_quota_must_suffice_for_a_deployment(aws: Aws) -> None:
    arguments = prepared_service(aws)
    aws.push("server", "0.1.0")
    gpu = ("--set", "service.InstanceType=g4dn.xlarge")
    assert QUOTAS["L-DB2E81BA"] == 8
    error = rejected(aws, *arguments, *gpu, "--set", "service.MaxInstances=3")
    assert "service.InstanceType: 3 instances g4dn.xlarge need 12 vCPUs, but the quota" in error
    assert "'Running On-Demand G and VT instances' is 8. Request 12 under Service Quotas, EC2 (L-DB2E81BA)" in error
    plan = aws.deploy("plan", *arguments, *gpu, "--set", "service.MaxInstances=2", "--stack", "service")
    assert "missing" not in plan


def test_quota_must_suffice_for_the_old_and_the_new_host(aws: Aws) -> None:
    arguments = prepared_host(aws)
    assert "missing" not in aws.deploy("plan", *arguments)
    error = rejected(aws, *arguments, "--set", "host.InstanceType=g5.2xlarge")
    assert "host.InstanceType: 2 instances g5.2xlarge need 16 vCPUs" in error


def instance(kind: str, cores: int, environment: str) -> dict[str, Any]:
    """Return a running instance of DescribeInstances."""
    tags = [{"Key": "radserve:environment", "Value": environment}]
    return {"InstanceType": kind, "CpuOptions": {"CoreCount": cores, "ThreadsPerCore": 2}, "Tags": tags}


def test_other_instances_count_towards_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    # moto's instances have no CPU options.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    cloud = Cloud(REGION)
    running = [instance("m7i.xlarge", 2, "other"), instance("t3.micro", 1, "other"), instance("g5.xlarge", 2, "other")]
    running += [instance("m7i.xlarge", 2, "demo"), instance("inf1.xlarge", 2, "other")]
    values = {
        "Environment": "demo",
        "ImageTag": "0.1.0",
        "AmiId": "ami-1",
        "InstanceType": "m7i.xlarge",
        "MaxInstances": "4",
        "CertificateArn": "arn:aws:acm:us-east-1:123456789012:certificate/0",
    }
    with Stubber(cloud.client("service-quotas")) as quotas, Stubber(cloud.client("ec2")) as ec2:
        for limit, missing in ((22.0, False), (21.0, True)):
            quotas.add_client_error("get_service_quota", "NoSuchResourceException")
            quotas.add_response("get_aws_default_service_quota", {"Quota": {"Value": limit}})
            ec2.add_response("describe_instances", {"Reservations": [{"Instances": running}]})
            result = find(cloud, load("service"), values, {})
            lines = [line for line in result.missing if "vCPUs" in line]
            assert bool(lines) == missing
    assert "4 instances m7i.xlarge need 16 vCPUs" in lines[0]
    assert "is 21 and other instances use 6. Request 22 under Service Quotas, EC2 (L-1216C47A), lower" in lines[0]


def test_host_needs_its_certificate(aws: Aws) -> None:
    arguments = prepared_host(aws)
    missing = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:other-AbCdEf"
    error = rejected(aws, *arguments, "--set", f"host.CertificateSecretArn={missing}")
    assert "host.CertificateSecretArn: the secret is missing or empty. Store the certificate in it" in error


def test_unknown_web_acl_is_rejected_and_a_known_one_is_associated(aws: Aws) -> None:
    arguments = prepared_service(aws)
    prefix = f"arn:aws:wafv2:{REGION}:{ACCOUNT}:regional/webacl/clients"
    unknown = f"{prefix}/00000000-0000-0000-0000-000000000000"
    assert "service.WebAclArn: eu-central-1 has no regional web ACL clients." in rejected(
        aws, *arguments, "--set", f"service.WebAclArn={unknown}"
    )
    visibility = {"SampledRequestsEnabled": False, "CloudWatchMetricsEnabled": False, "MetricName": "clients"}
    created = aws.client("wafv2").create_web_acl(
        Name="clients", Scope="REGIONAL", DefaultAction={"Allow": {}}, VisibilityConfig=visibility
    )
    arn = created["Summary"]["ARN"]
    assert "WebAcl " in aws.deploy("plan", *arguments, "--set", f"service.WebAclArn={arn}")


def test_tasks_run_the_digest_of_the_tag(aws: Aws) -> None:
    arguments = service(aws)
    digest = aws.provide(*arguments)
    aws.deploy("apply", *arguments, "--yes")
    images = {item["name"]: item["image"] for item in task(aws)["containerDefinitions"]}
    expected = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/radserve/server-cpu@{digest}"
    assert (images["server"], images["prepare"]) == (expected, expected)
    output = re.sub(r"\s+", "", aws.deploy("status", str(EXAMPLE)))
    assert f"radserve/server-cpu:0.1.0@{digest}" in output


def test_ami_is_kept_until_latest_is_requested(aws: Aws) -> None:
    arguments = prepared_service(aws)
    old = "ami-00000000000000000"
    aws.deploy("apply", *arguments, "--yes", "--set", f"service.AmiId={old}")
    assert parameters(aws, "demo-service")["AmiId"] == old
    output = aws.deploy("apply", *arguments, "--yes")
    assert f"note: service.AmiId: {old} is kept; a newer AMI exists: --set service.AmiId=latest" in output
    assert "Nothing to change." in output
    aws.deploy("apply", *arguments, "--yes", "--set", "service.AmiId=latest")
    newest = parameters(aws, "demo-service")["AmiId"]
    assert re.fullmatch("ami-[0-9a-f]+", newest)
    assert newest != old
    # An AMI for CPUs does not serve instances with a GPU.
    aws.push("server", "0.1.0")
    gpu = ("--set", "service.InstanceType=g4dn.xlarge", "--set", "service.MaxInstances=2")
    aws.deploy("apply", *arguments, "--yes", *gpu)
    assert parameters(aws, "demo-service")["AmiId"] not in {old, newest}
