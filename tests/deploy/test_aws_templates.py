"""CloudFormation templates: cfn-lint, and rules of this project."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cfnlint import lint_file  # type: ignore[import-untyped]

from gateway.settings import PREFIX
from gateway.settings import Settings as GatewaySettings
from radserve.cli import serve
from radserve.deploy.errors import SettingsError
from radserve.deploy.settings import STACKS, StackName
from radserve.deploy.teardown import RETAINED, TEMPORARY
from radserve.deploy.template import FOLDER, Template, load

EVERYTHING = {
    # Statement: why its resource must be "*".
    ("storage", "Key", "Account"): "a key's policy applies only to that key",
    ("storage", "Key", "Logs"): "a key's policy applies only to that key; only for log groups of this environment",
    ("storage", "Key", "Alarms"): "a key's policy applies only to that key; only for this account",
    ("service", "InstanceRole", "Discover"): "ecs:DiscoverPollEndpoint has no resource",
    (
        "service",
        "InstanceRole",
        "Metrics",
    ): "cloudwatch:PutMetricData has no resource; a condition limits the namespace",
    ("service", "ExecutionRole", "Login"): "ecr:GetAuthorizationToken has no resource",
    ("host", "Role", "Login"): "ecr:GetAuthorizationToken has no resource",
    ("host", "Role", "Metrics"): "cloudwatch:PutMetricData has no resource; a condition limits the namespace",
    (
        "front",
        "Role",
        "Network",
    ): "names of Lambda's interfaces are not known in advance; a denial excludes the function's code",
}
PUBLIC = {("service", "BalancerGroup"): {80, 443}, ("host", "Group"): {443}}
"""Security groups with public ingress, and their ports."""


def of(template: Template, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield logical ID and properties of each resource of a type."""
    for name, item in template.document["Resources"].items():
        if item["Type"] == kind:
            yield name, item.get("Properties", {})


def listed(value: Any) -> list[Any]:
    """Wrap a single value in a list."""
    return value if isinstance(value, list) else [value]


def statements() -> Iterator[tuple[StackName, str, dict[str, Any]]]:
    """Yield every statement of every policy in all templates."""
    for stack in STACKS:
        for name, item in load(stack).document["Resources"].items():
            for statement in _statements(item):
                yield stack, name, statement


def _statements(item: Any) -> Iterator[dict[str, Any]]:
    if isinstance(item, dict):
        yield from item.get("Statement", [])
        for value in item.values():
            yield from _statements(value)
    elif isinstance(item, list):
        for value in item:
            yield from _statements(value)


ALLOWED = [item for item in statements() if item[2]["Effect"] == "Allow"]


@pytest.mark.parametrize("stack", STACKS)
def test_cfn_lint_finds_nothing(stack: StackName) -> None:
    assert [str(item) for item in lint_file(FOLDER / f"{stack}.yaml")] == []


@pytest.mark.parametrize("stack", STACKS)
def test_skipped_checks_have_a_reason(stack: StackName) -> None:
    text = (FOLDER / f"{stack}.yaml").read_text(encoding="utf-8")
    skips = re.findall(r"- id: (CKV\w+)\n\s+comment: (.*)", text)
    assert len(skips) == text.count("CKV")
    assert all(len(reason) > 20 for _, reason in skips)
    assert "cfn-lint" not in text


@pytest.mark.parametrize("stack", STACKS)
def test_template_has_no_yaml_aliases(stack: StackName) -> None:
    text = (FOLDER / f"{stack}.yaml").read_text(encoding="utf-8")
    assert not re.search(r"(: |- )[&*][a-z]", text), "CloudFormation does not support aliases"


@pytest.mark.parametrize("stack", STACKS)
def test_parameters_are_constrained_and_described(stack: StackName) -> None:
    template = load(stack)
    assert template.document["Description"].startswith(f"RadServe, {stack}: ")
    for name, item in template.parameters.items():
        assert item.declaration["Description"], name
        typed = item.declaration["Type"].startswith(("AWS::", "List<AWS::"))
        bounded = {"AllowedPattern", "AllowedValues", "MinValue"} & set(item.declaration)
        assert typed or bounded, f"{stack}.{name} has no constraint"
        assert ("AllowedPattern" in item.declaration) == ("ConstraintDescription" in item.declaration), name
        is_number = item.declaration["Type"] == "Number"
        assert not is_number or "AllowedValues" in bounded or "MaxValue" in item.declaration, name
        if item.default is not None and not item.declaration["Type"].startswith("AWS::SSM"):
            item.check(stack, item.default)
    assert all(item["Description"] for item in template.document.get("Outputs", {}).values())


@pytest.mark.parametrize("stack", STACKS)
def test_template_has_no_duplicate_keys(stack: StackName) -> None:
    # PyYAML accepts duplicate keys and keeps the last one.
    for line, count in _repeated(FOLDER / f"{stack}.yaml").items():
        assert count == 1, line


def _repeated(path: Path) -> dict[str, int]:
    section, counts = "", dict[str, int]()
    for line in path.read_text(encoding="utf-8").splitlines():
        if re.match(r"\w", line):
            section = line.partition(":")[0]
        elif match := re.match(r"  (\w+):", line):
            key = f"{section}.{match[1]}"
            counts[key] = counts.get(key, 0) + 1
    return counts


def test_statements_list_their_actions() -> None:
    assert len(ALLOWED) > 20
    wild = [
        (stack, name, action) for stack, name, item in ALLOWED for action in listed(item["Action"]) if "*" in action
    ]
    assert wild == []
    assert [item for item in ALLOWED if "NotAction" in item[2] or "NotResource" in item[2]] == []


def test_wildcard_resources_are_only_those_with_a_reason() -> None:
    wide = {(stack, name, item["Sid"]) for stack, name, item in ALLOWED if "*" in listed(item.get("Resource", ""))}
    assert wide == set(EVERYTHING)


def test_only_services_and_the_account_are_trusted() -> None:
    for stack, name, item in ALLOWED:
        trusted = item.get("Principal", {})
        assert trusted != "*", (stack, name)
        for who in listed(trusted.get("AWS", [])):
            assert who == {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}, (stack, name)


def test_services_are_trusted_only_for_this_account() -> None:
    for stack, name, item in ALLOWED:
        services = listed(item.get("Principal", {}).get("Service", []))
        # EC2 and Lambda assume a role only in its own account.
        if services and services not in (["ec2.amazonaws.com"], ["lambda.amazonaws.com"]):
            assert "Condition" in item, (stack, name, services)


def test_security_groups_open_only_the_public_ports() -> None:
    opened: dict[tuple[str, str], set[int]] = {}
    for stack in STACKS:
        for name, group in of(load(stack), "AWS::EC2::SecurityGroup"):
            for rule in group.get("SecurityGroupIngress", []):
                assert rule["FromPort"] == rule["ToPort"] != 22
                assert rule["IpProtocol"] == "tcp"
                if rule.get("CidrIp") in ("0.0.0.0/0", {"Ref": "AllowedCidr"}):
                    opened.setdefault((stack, name), set()).add(rule["FromPort"])
        assert not list(of(load(stack), "AWS::EC2::SecurityGroupIngress"))
    assert opened == PUBLIC


def test_ssh_is_closed() -> None:
    for stack in STACKS:
        text = load(stack).body
        assert "KeyName" not in text
        assert not re.search(r"Port: 22\b", text)


def test_log_groups_have_retention_and_encryption() -> None:
    groups = [(stack, name, item) for stack in STACKS for name, item in of(load(stack), "AWS::Logs::LogGroup")]
    assert len(groups) == 7
    for stack, name, item in groups:
        assert item["RetentionInDays"], (stack, name)
        assert item["KmsKeyId"] == {"Ref": "KeyArn"}, (stack, name)
        # The key's policy allows CloudWatch only these names.
        assert item["LogGroupName"]["Fn::Sub"].startswith("/radserve/${Environment}/")


def test_buckets_are_private_encrypted_versioned_and_require_tls() -> None:
    template = load("storage")
    denied = {
        item["Bucket"]["Ref"]
        for _, item in of(template, "AWS::S3::BucketPolicy")
        for statement in item["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Deny" and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    }
    buckets = dict(of(template, "AWS::S3::Bucket"))
    assert denied == set(buckets) == {"Models", "AccessLogs"}
    for item in buckets.values():
        assert item["VersioningConfiguration"] == {"Status": "Enabled"}
        assert item["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert set(item["PublicAccessBlockConfiguration"].values()) == {"true"} or all(
            item["PublicAccessBlockConfiguration"].values()
        )
        assert item["LifecycleConfiguration"]["Rules"][0]["NoncurrentVersionExpiration"]


def test_data_outlive_their_stack() -> None:
    kinds = {"AWS::S3::Bucket", "AWS::ECR::Repository", "AWS::KMS::Key", "AWS::SecretsManager::Secret"}
    resources = [(stack, item) for stack in STACKS for item in load(stack).document["Resources"].values()]
    for stack, item in resources:
        if item["Type"] in kinds and stack not in TEMPORARY:
            assert stack in RETAINED
            assert item["DeletionPolicy"] == "RetainExceptOnCreate"
            assert item["UpdateReplacePolicy"] == "Retain"


def test_image_tags_are_immutable_and_images_are_scanned() -> None:
    repositories = dict(of(load("storage"), "AWS::ECR::Repository"))
    assert [item["RepositoryName"] for item in repositories.values()] == ["radserve/server", "radserve/server-cpu"]
    for item in repositories.values():
        assert item["ImageTagMutability"] == "IMMUTABLE"
        assert item["ImageScanningConfiguration"] == {"ScanOnPush": True}
        policy = item["LifecyclePolicy"]["LifecyclePolicyText"]["Fn::Sub"].replace("${ImagesKept}", "20")
        assert json.loads(policy)["rules"][0]["selection"]["countNumber"] == 20


@pytest.mark.parametrize("stack", ["service", "host"])
def test_instances_require_tokens_and_encrypted_disks(stack: StackName) -> None:
    templates = list(of(load(stack), "AWS::EC2::LaunchTemplate"))
    assert len(templates) == 1
    for _, item in templates:
        data = item["LaunchTemplateData"]
        assert data["MetadataOptions"] == {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
        }
        for disk in data["BlockDeviceMappings"]:
            assert disk["Ebs"]["Encrypted"] is True
            assert disk["Ebs"]["VolumeType"] == "gp3"
        assert "Instance" not in {name for name, _ in of(load(stack), "AWS::EC2::KeyPair")}


def containers() -> dict[str, dict[str, Any]]:
    """Return the containers of the task, by name."""
    ((_, task),) = of(load("service"), "AWS::ECS::TaskDefinition")
    flat = [item["Fn::If"][1] if "Fn::If" in item else item for item in task["ContainerDefinitions"]]
    return {item["Name"]: item for item in flat}


def environment(container: dict[str, Any]) -> dict[str, Any]:
    """Return a container's variables, including conditional ones."""
    flat = [item["Fn::If"][1] if "Fn::If" in item else item for item in container["Environment"]]
    return {item["Name"]: item["Value"] for item in flat}


def test_server_runs_without_privileges() -> None:
    server, fetch = containers()["server"], containers()["fetch"]
    assert server["User"] == "10001:0"
    for item in (server, fetch):
        assert item["ReadonlyRootFilesystem"] is True
        assert item["Privileged"] is False
        assert item["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}
    assert {item["ContainerPath"] for item in server["LinuxParameters"]["Tmpfs"]} == {"/tmp", "/run/radserve"}


def test_variables_of_the_server_are_known() -> None:
    known = set(re.findall(r"RADSERVE_\w+", Path(serve.__file__).read_text("utf-8")))
    variables = set(environment(containers()["server"]))
    assert {name for name in variables if name.startswith("RADSERVE_")} <= known
    unit = load("host").body
    assert set(re.findall(r"^\s+(RADSERVE_\w+)=", unit, re.MULTILINE)) <= known


def test_load_balancer_and_server_use_the_same_port() -> None:
    template, server = load("service"), containers()["server"]
    ((_, targets),) = of(template, "AWS::ElasticLoadBalancingV2::TargetGroup")
    ((_, service),) = of(template, "AWS::ECS::Service")
    ((_, way),) = of(template, "AWS::EC2::SecurityGroupEgress")
    assert {
        targets["Port"],
        server["PortMappings"][0]["ContainerPort"],
        service["LoadBalancers"][0]["ContainerPort"],
    } == {8000}
    assert way["FromPort"] == way["ToPort"] == int(environment(server)["RADSERVE_PORT"]) == 8000
    assert targets["HealthCheckPath"] == "/ready"


def test_stop_timeout_exceeds_the_drain() -> None:
    longest = sum(load("service").parameters[name].declaration["MaxValue"] for name in ("DrainDelay", "DrainTimeout"))
    assert longest < containers()["server"]["StopTimeout"] == 120
    assert longest < 120 < int(re.findall(r"TimeoutStopSec=(\d+)", load("host").body)[0])


def test_containers_fit_on_the_instance() -> None:
    template = load("service")
    agent, fetch = containers()["agent"], containers()["fetch"]
    sizes = {"large": (2, 8), "xlarge": (4, 16), "2xlarge": (8, 32)}
    for name, item in template.document["Mappings"]["InstanceTypes"].items():
        cores, gib = sizes[name.partition(".")[2]]
        gib = gib // 2 if name.startswith("c7i") else gib
        assert (item["Gpus"] == "1") == name.startswith("g")
        assert int(item["Cpu"]) + agent["Cpu"] + fetch["Cpu"] <= 1024 * cores
        # 10% are for the operating system and the ECS agent.
        assert int(item["Memory"]) + agent["Memory"] + fetch["Memory"] <= 1024 * gib * 0.9
    assert template.parameters["InstanceType"].declaration["AllowedValues"] == list(
        template.document["Mappings"]["InstanceTypes"]
    )


def test_sidecar_collects_the_metrics_of_scaling_and_alarms() -> None:
    agent = environment(containers()["agent"])
    config = json.loads(agent["CW_CONFIG_CONTENT"]["Fn::Sub"])
    emf = config["logs"]["metrics_collected"]["prometheus"]["emf_processor"]
    selected = {item.strip("^$") for item in emf["metric_declaration"][0]["metric_selectors"]}
    policies = dict(of(load("service"), "AWS::ApplicationAutoScaling::ScalingPolicy"))
    tracked = policies["ByQueue"]["TargetTrackingScalingPolicyConfiguration"]["CustomizedMetricSpecification"][
        "Metrics"
    ]
    metrics = [item["MetricStat"]["Metric"] for item in tracked if "MetricStat" in item]
    assert {item["MetricName"] for item in metrics} == selected
    assert (
        {item["Namespace"]["Fn::Sub"] for item in metrics} == {emf["metric_namespace"]} == {"RadServe/${Environment}"}
    )
    kept = Path(FOLDER.parents[1] / "torchserve" / "metrics.yaml").read_text(encoding="utf-8")
    assert all(f"name: {name}\n" in kept for name in selected), "TorchServe emits only metrics listed there"


def test_dashboards_are_json_and_use_existing_metrics() -> None:
    names = set()
    for name, item in of(load("monitoring"), "AWS::CloudWatch::Dashboard"):
        widgets = json.loads(item["DashboardBody"]["Fn::Sub"])["widgets"]
        assert len(widgets) >= 4, name
        names |= {
            cell
            for widget in widgets
            for row in widget["properties"]["metrics"]
            for cell in row
            if isinstance(cell, str)
        }
    assert {"ts_queue_latency_microseconds", "nvidia_smi_memory_used", "disk_used_percent"} <= names


def test_alarms_notify_the_topic() -> None:
    alarms = dict(of(load("monitoring"), "AWS::CloudWatch::Alarm"))
    assert len(alarms) == 8
    for name, item in alarms.items():
        assert item["AlarmActions"] == [{"Ref": "Topic"}], name
        assert item["TreatMissingData"] in {"notBreaching", "breaching"}, name


def test_variables_of_the_front_are_known_and_contain_no_secret() -> None:
    ((_, function),) = of(load("front"), "AWS::Lambda::Function")
    variables = function["Environment"]["Variables"]
    known = {f"{PREFIX}{name.upper()}" for name in GatewaySettings.model_fields}
    assert set(variables) <= known
    for name in ("KEYS", "SERVER_KEY", "HISTORY"):
        value = json.dumps(variables[f"{PREFIX}{name}"])
        assert "secretsmanager:${" in value, name


def test_front_times_out_before_its_callers() -> None:
    template = load("front")
    times = template.document["Mappings"]["Timeouts"]
    assert template.parameters["Timeout"].declaration["AllowedValues"] == list(times)
    for whole, item in times.items():
        assert float(item["Server"]) < int(whole) - 2
    waits = {
        item["TimeoutInMillis"]
        for _, properties in (
            *of(template, "AWS::ApiGatewayV2::Integration"),
            *of(template, "AWS::ApiGateway::Method"),
        )
        for item in [properties.get("Integration", properties)]
    }
    assert waits == {29000}
    assert max(map(int, times)) < 29


def test_front_requires_keys() -> None:
    template = load("front")
    for name in ("ApiKeysName", "ApiKeysArn"):
        assert template.parameters[name].default is None
        with pytest.raises(SettingsError):
            template.parameters[name].check("front", "")


def test_role_of_the_front_is_limited_to_its_resources() -> None:
    statements_by_id = {item["Sid"]: item for stack, _, item in ALLOWED if stack == "front" and "Sid" in item}
    assert statements_by_id["Uploads"]["Resource"]["Fn::Sub"].endswith("/uploads/*")
    for name, ending in (
        ("ServerKey", "secret:${ServerKeySecret}-??????"),
        ("History", "secret:${HistorySecret}-??????"),
    ):
        assert statements_by_id[name]["Action"] == "secretsmanager:GetSecretValue"
        assert statements_by_id[name]["Resource"]["Fn::Sub"].endswith(ending)
    ((_, function),) = of(load("front"), "AWS::Lambda::Function")
    assert function["Environment"]["Variables"][f"{PREFIX}UPLOADS"]["Fn::Sub"] == (
        "s3://" + statements_by_id["Uploads"]["Resource"]["Fn::Sub"].partition(":::")[2].removesuffix("/*")
    )


def test_uploads_are_private_encrypted_and_expire() -> None:
    ((_, bucket),) = of(load("front"), "AWS::S3::Bucket")
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    default = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]["ServerSideEncryptionByDefault"]
    assert default == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": {"Ref": "KeyArn"}}
    assert bucket["LifecycleConfiguration"]["Rules"][0]["ExpirationInDays"] == 1
    (rule,) = bucket["CorsConfiguration"]["CorsRules"]
    assert rule["AllowedMethods"] == ["POST"]
    assert "*" not in json.dumps(rule["AllowedOrigins"])
    ((_, policy),) = of(load("front"), "AWS::S3::BucketPolicy")
    (denied,) = policy["PolicyDocument"]["Statement"]
    assert (denied["Effect"], denied["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_alarms_of_the_front_notify_an_existing_topic() -> None:
    alarms = dict(of(load("front"), "AWS::CloudWatch::Alarm"))
    assert set(alarms) == {"Errors", "Throttles", "Slow"}
    for item in alarms.values():
        assert item["AlarmActions"]["Fn::If"][:2] == ["WithTopic", [{"Ref": "TopicArn"}]]


def test_rest_api_forwards_all_paths_as_bytes() -> None:
    template = load("front")
    ((_, api),) = of(template, "AWS::ApiGateway::RestApi")
    assert api["BinaryMediaTypes"] == ["*/*"]
    assert {item["ResourceId"].get("Ref", "root") for _, item in of(template, "AWS::ApiGateway::Method")} == {
        "root",
        "RestPath",
    }
    deployment = template.document["Resources"]["RestDeployment"]
    assert set(deployment["DependsOn"]) == {name for name, _ in of(template, "AWS::ApiGateway::Method")}
