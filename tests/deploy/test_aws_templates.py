"""The templates: what the linter says, and what no linter knows about this project."""

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
from radserve.cli.serve import serve
from radserve.deploy.errors import SettingsError
from radserve.deploy.settings import STACKS, StackName
from radserve.deploy.teardown import RETAINED, TEMPORARY
from radserve.deploy.template import FOLDER, Template, load

EVERYTHING = {
    # Statement: why its resource has to be "*".
    ("storage", "Key", "Account"): "a key's policy is about that key alone",
    ("storage", "Key", "Logs"): "a key's policy is about that key alone; only for log groups of this environment",
    ("storage", "Key", "Alarms"): "a key's policy is about that key alone; only for this account",
    ("service", "InstanceRole", "Discover"): "ecs:DiscoverPollEndpoint knows no resource",
    ("service", "InstanceRole", "Metrics"): "cloudwatch:PutMetricData knows no resource; a condition has the namespace",
    ("service", "ExecutionRole", "Login"): "ecr:GetAuthorizationToken knows no resource",
    ("host", "Role", "Login"): "ecr:GetAuthorizationToken knows no resource",
    ("host", "Role", "Metrics"): "cloudwatch:PutMetricData knows no resource; a condition has the namespace",
    ("front", "Role", "Network"): "Lambda names no interface beforehand; a denial keeps the function itself from it",
}
PUBLIC = {("service", "BalancerGroup"): {80, 443}, ("host", "Group"): {443}}
"""Security groups that a range which may be 0.0.0.0/0 reaches, and on which ports."""


def of(template: Template, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield logical IDs and properties of a type."""
    for name, item in template.document["Resources"].items():
        if item["Type"] == kind:
            yield name, item.get("Properties", {})


def listed(value: Any) -> list[Any]:
    """Return what may stand alone or in a list as a list."""
    return value if isinstance(value, list) else [value]


def statements() -> Iterator[tuple[StackName, str, dict[str, Any]]]:
    """Yield every statement of every policy, wherever in a template it stands."""
    for stack in STACKS:
        for name, item in load(stack).document["Resources"].items():
            for found in _statements(item):
                yield stack, name, found


def _statements(item: Any) -> Iterator[dict[str, Any]]:
    if isinstance(item, dict):
        yield from item.get("Statement", [])
        for value in item.values():
            yield from _statements(value)
    elif isinstance(item, list):
        for value in item:
            yield from _statements(value)


ALLOWED = [found for found in statements() if found[2]["Effect"] == "Allow"]


@pytest.mark.parametrize("stack", STACKS)
def test_cfn_lint_finds_nothing(stack: StackName) -> None:
    assert [str(item) for item in lint_file(FOLDER / f"{stack}.yaml")] == []


@pytest.mark.parametrize("stack", STACKS)
def test_every_exception_from_a_tools_rule_has_its_reason(stack: StackName) -> None:
    text = (FOLDER / f"{stack}.yaml").read_text(encoding="utf-8")
    skips = re.findall(r"- id: (CKV\w+)\n\s+comment: (.*)", text)
    assert len(skips) == text.count("CKV")
    assert all(len(reason) > 20 for _, reason in skips)
    assert "cfn-lint" not in text


@pytest.mark.parametrize("stack", STACKS)
def test_a_template_uses_no_yaml_that_cloudformation_does_not_read(stack: StackName) -> None:
    text = (FOLDER / f"{stack}.yaml").read_text(encoding="utf-8")
    assert not re.search(r"(: |- )[&*][a-z]", text), "CloudFormation knows no aliases"


@pytest.mark.parametrize("stack", STACKS)
def test_parameters_are_constrained_and_everything_is_described(stack: StackName) -> None:
    template = load(stack)
    assert template.document["Description"].startswith(f"RadServe, {stack}: ")
    for name, item in template.parameters.items():
        assert item.declaration["Description"], name
        typed = item.declaration["Type"].startswith(("AWS::", "List<AWS::"))
        bounded = {"AllowedPattern", "AllowedValues", "MinValue"} & set(item.declaration)
        assert typed or bounded, f"{stack}.{name} takes anything"
        assert ("AllowedPattern" in item.declaration) == ("ConstraintDescription" in item.declaration), name
        is_number = item.declaration["Type"] == "Number"
        assert not is_number or "AllowedValues" in bounded or "MaxValue" in item.declaration, name
        if item.default is not None and not item.declaration["Type"].startswith("AWS::SSM"):
            item.check(stack, item.default)
    assert all(item["Description"] for item in template.document.get("Outputs", {}).values())


@pytest.mark.parametrize("stack", STACKS)
def test_a_key_stands_once_in_a_template(stack: StackName) -> None:
    # PyYAML keeps the last of two equal keys without a word.
    for line, count in _repeated(FOLDER / f"{stack}.yaml").items():
        assert count == 1, line


def _repeated(path: Path) -> dict[str, int]:
    section, found = "", dict[str, int]()
    for line in path.read_text(encoding="utf-8").splitlines():
        if re.match(r"\w", line):
            section = line.partition(":")[0]
        elif match := re.match(r"  (\w+):", line):
            key = f"{section}.{match[1]}"
            found[key] = found.get(key, 0) + 1
    return found


def test_no_statement_allows_every_action_of_anything() -> None:
    assert len(ALLOWED) > 20
    wild = [
        (stack, name, action) for stack, name, item in ALLOWED for action in listed(item["Action"]) if "*" in action
    ]
    assert wild == []
    assert [item for item in ALLOWED if "NotAction" in item[2] or "NotResource" in item[2]] == []


def test_every_resource_is_named_but_where_a_reason_stands() -> None:
    wide = {(stack, name, item["Sid"]) for stack, name, item in ALLOWED if "*" in listed(item.get("Resource", ""))}
    assert wide == set(EVERYTHING)


def test_nobody_is_trusted_but_services_and_the_account_itself() -> None:
    for stack, name, item in ALLOWED:
        trusted = item.get("Principal", {})
        assert trusted != "*", (stack, name)
        for who in listed(trusted.get("AWS", [])):
            assert who == {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}, (stack, name)


def test_services_act_for_this_account_alone() -> None:
    for stack, name, item in ALLOWED:
        services = listed(item.get("Principal", {}).get("Service", []))
        # Instances and log groups name their account or their own environment otherwise; a role is passed to a function
        # only by its own account.
        if services and services not in (["ec2.amazonaws.com"], ["lambda.amazonaws.com"]):
            assert "Condition" in item, (stack, name, services)


def test_security_groups_open_nothing_else() -> None:
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


def test_nobody_logs_in_by_ssh() -> None:
    for stack in STACKS:
        text = load(stack).body
        assert "KeyName" not in text
        assert not re.search(r"Port: 22\b", text)


def test_every_log_group_forgets_and_is_encrypted_by_the_environments_key() -> None:
    groups = [(stack, name, item) for stack in STACKS for name, item in of(load(stack), "AWS::Logs::LogGroup")]
    assert len(groups) == 7
    for stack, name, item in groups:
        assert item["RetentionInDays"], (stack, name)
        assert item["KmsKeyId"] == {"Ref": "KeyArn"}, (stack, name)
        # The key's policy lets CloudWatch use it for these names alone.
        assert item["LogGroupName"]["Fn::Sub"].startswith("/radserve/${Environment}/")


def test_every_bucket_is_encrypted_versioned_closed_and_speaks_tls_only() -> None:
    template = load("storage")
    denied = {
        item["Bucket"]["Ref"]
        for _, item in of(template, "AWS::S3::BucketPolicy")
        for found in item["PolicyDocument"]["Statement"]
        if found["Effect"] == "Deny" and found["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
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


def test_what_holds_data_outlives_its_stack() -> None:
    kinds = {"AWS::S3::Bucket", "AWS::ECR::Repository", "AWS::KMS::Key", "AWS::SecretsManager::Secret"}
    found = [(stack, item) for stack in STACKS for item in load(stack).document["Resources"].values()]
    for stack, item in found:
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
def test_instances_ask_for_tokens_and_encrypt_their_disks(stack: StackName) -> None:
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
    """Return a container's variables, those of either branch of a condition among them."""
    flat = [item["Fn::If"][1] if "Fn::If" in item else item for item in container["Environment"]]
    return {item["Name"]: item["Value"] for item in flat}


def test_the_server_runs_without_privileges() -> None:
    server, fetch = containers()["server"], containers()["fetch"]
    assert server["User"] == "10001:0"
    for item in (server, fetch):
        assert item["ReadonlyRootFilesystem"] is True
        assert item["Privileged"] is False
        assert item["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}
    assert {item["ContainerPath"] for item in server["LinuxParameters"]["Tmpfs"]} == {"/tmp", "/run/radserve"}


def test_the_server_gets_only_variables_that_it_knows() -> None:
    annotations = [str(item) for item in serve.__annotations__.values()]
    known = set(
        re.findall(r"RADSERVE_\w+", " ".join(annotations) + Path(serve.__code__.co_filename).read_text("utf-8"))
    )
    given = set(environment(containers()["server"]))
    assert {name for name in given if name.startswith("RADSERVE_")} <= known
    unit = load("host").body
    assert set(re.findall(r"^\s+(RADSERVE_\w+)=", unit, re.MULTILINE)) <= known


def test_the_load_balancer_and_the_server_speak_of_one_port() -> None:
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


def test_a_stop_waits_longer_than_the_drain_can_take() -> None:
    longest = sum(load("service").parameters[name].declaration["MaxValue"] for name in ("DrainDelay", "DrainTimeout"))
    assert longest < containers()["server"]["StopTimeout"] == 120
    assert longest < 120 < int(re.findall(r"TimeoutStopSec=(\d+)", load("host").body)[0])


def test_memory_and_cores_of_all_containers_fit_on_the_instance() -> None:
    template = load("service")
    agent, fetch = containers()["agent"], containers()["fetch"]
    sizes = {"large": (2, 8), "xlarge": (4, 16), "2xlarge": (8, 32)}
    for name, item in template.document["Mappings"]["InstanceTypes"].items():
        cores, gib = sizes[name.partition(".")[2]]
        gib = gib // 2 if name.startswith("c7i") else gib
        assert (item["Gpus"] == "1") == name.startswith("g")
        assert int(item["Cpu"]) + agent["Cpu"] + fetch["Cpu"] <= 1024 * cores
        # A tenth is the system's and the agent's of ECS.
        assert int(item["Memory"]) + agent["Memory"] + fetch["Memory"] <= 1024 * gib * 0.9
    assert template.parameters["InstanceType"].declaration["AllowedValues"] == list(
        template.document["Mappings"]["InstanceTypes"]
    )


def test_the_sidecar_measures_what_scaling_and_alarms_look_at() -> None:
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
    assert all(f"name: {name}\n" in kept for name in selected), "TorchServe drops what is not listed there"


def test_dashboards_are_json_and_use_the_metrics_that_there_are() -> None:
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


def test_every_alarm_tells_somebody() -> None:
    alarms = dict(of(load("monitoring"), "AWS::CloudWatch::Alarm"))
    assert len(alarms) == 8
    for name, item in alarms.items():
        assert item["AlarmActions"] == [{"Ref": "Topic"}], name
        assert item["TreatMissingData"] in {"notBreaching", "breaching"}, name


def test_the_front_gets_only_variables_that_it_knows_and_no_secret() -> None:
    ((_, function),) = of(load("front"), "AWS::Lambda::Function")
    variables = function["Environment"]["Variables"]
    known = {f"{PREFIX}{name.upper()}" for name in GatewaySettings.model_fields}
    assert set(variables) <= known
    for name in ("KEYS", "SERVER_KEY", "HISTORY"):
        value = json.dumps(variables[f"{PREFIX}{name}"])
        assert "secretsmanager:${" in value, name


def test_the_front_ends_before_whoever_waits_for_it() -> None:
    template = load("front")
    times = template.document["Mappings"]["Timeouts"]
    assert template.parameters["Timeout"].declaration["AllowedValues"] == list(times)
    for whole, item in times.items():
        assert float(item["Server"]) < int(whole) - 2
    waits = {
        item["TimeoutInMillis"]
        for _, found in (
            *of(template, "AWS::ApiGatewayV2::Integration"),
            *of(template, "AWS::ApiGateway::Method"),
        )
        for item in [found.get("Integration", found)]
    }
    assert waits == {29000}
    assert max(map(int, times)) < 29


def test_the_front_has_no_default_that_opens_it_without_keys() -> None:
    template = load("front")
    for name in ("ApiKeysName", "ApiKeysArn"):
        assert template.parameters[name].default is None
        with pytest.raises(SettingsError):
            template.parameters[name].check("front", "")


def test_what_the_front_may_do_is_bound_to_what_it_names() -> None:
    found = {item["Sid"]: item for stack, _, item in ALLOWED if stack == "front" and "Sid" in item}
    assert found["Uploads"]["Resource"]["Fn::Sub"].endswith("/uploads/*")
    for name, ending in (
        ("ServerKey", "secret:${ServerKeySecret}-??????"),
        ("History", "secret:${HistorySecret}-??????"),
    ):
        assert found[name]["Action"] == "secretsmanager:GetSecretValue"
        assert found[name]["Resource"]["Fn::Sub"].endswith(ending)
    ((_, function),) = of(load("front"), "AWS::Lambda::Function")
    assert function["Environment"]["Variables"][f"{PREFIX}UPLOADS"]["Fn::Sub"] == (
        "s3://" + found["Uploads"]["Resource"]["Fn::Sub"].partition(":::")[2].removesuffix("/*")
    )


def test_uploads_are_encrypted_closed_forgotten_and_sent_from_the_page_alone() -> None:
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


def test_every_alarm_of_the_front_tells_the_topic_where_there_is_one() -> None:
    alarms = dict(of(load("front"), "AWS::CloudWatch::Alarm"))
    assert set(alarms) == {"Errors", "Throttles", "Slow"}
    for item in alarms.values():
        assert item["AlarmActions"]["Fn::If"][:2] == ["WithTopic", [{"Ref": "TopicArn"}]]


def test_a_rest_api_passes_every_path_on_as_bytes() -> None:
    template = load("front")
    ((_, api),) = of(template, "AWS::ApiGateway::RestApi")
    assert api["BinaryMediaTypes"] == ["*/*"]
    assert {item["ResourceId"].get("Ref", "root") for _, item in of(template, "AWS::ApiGateway::Method")} == {
        "root",
        "RestPath",
    }
    deployment = template.document["Resources"]["RestDeployment"]
    assert set(deployment["DependsOn"]) == {name for name, _ in of(template, "AWS::ApiGateway::Method")}
