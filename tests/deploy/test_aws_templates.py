"""CloudFormation templates: cfn-lint, and rules of this project."""

import json
import os
import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cfnlint import lint_file  # type: ignore[import-untyped]

from gateway.settings import PREFIX
from gateway.settings import Settings as GatewaySettings
from radserve.cli import serve
from radserve.deploy.errors import SettingsError
from radserve.deploy.settings import STACKS, StackName
from radserve.deploy.teardown import RETAINED, TEMPORARY
from radserve.deploy.template import FOLDER, Template, load
from radserve.proxy import certificate
from tests.server import ROOT

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


def met(item: Any) -> Any:
    """Return an item as if its condition is met."""
    return item["Fn::If"][1] if isinstance(item, dict) and "Fn::If" in item else item


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
        yield from map(met, item.get("Statement", []))
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
        for _, rule in of(load(stack), "AWS::EC2::SecurityGroupIngress"):
            assert rule["FromPort"] == rule["ToPort"] != 22
            assert "SourceSecurityGroupId" in rule
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
    return {item["Name"]: item for item in map(met, task["ContainerDefinitions"])}


def environment(container: dict[str, Any]) -> dict[str, Any]:
    """Return a container's variables, including conditional ones."""
    return {item["Name"]: item["Value"] for item in map(met, container["Environment"])}


def test_server_runs_without_privileges() -> None:
    server, prepare = containers()["server"], containers()["prepare"]
    assert server["User"] == "10001:0"
    for item in (server, prepare):
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
    ways = dict(of(template, "AWS::EC2::SecurityGroupEgress"))
    way = ways["BalancerToTasks"]
    assert {
        targets["Port"],
        server["PortMappings"][0]["ContainerPort"],
        service["LoadBalancers"][0]["ContainerPort"],
    } == {8443}
    assert way["FromPort"] == way["ToPort"] == int(environment(server)["RADSERVE_PORT"]) == 8443
    assert targets["HealthCheckPath"] == "/ready"


def test_load_balancer_connects_to_tasks_with_tls() -> None:
    ((_, targets),) = of(load("service"), "AWS::ElasticLoadBalancingV2::TargetGroup")
    assert (targets["Protocol"], targets["HealthCheckProtocol"]) == ("HTTPS", "HTTPS")
    variables = environment(containers()["server"])
    assert "RADSERVE_PLAIN_HTTP" not in variables
    assert variables["RADSERVE_CERTIFICATE"] == "/var/lib/radserve/tls/certificate.pem"
    assert variables["RADSERVE_CERTIFICATE_KEY"] == "/var/lib/radserve/tls/key.pem"


def test_nothing_is_public_unless_requested() -> None:
    service, host = load("service"), load("host")
    assert service.parameters["Access"].default == "internal"
    assert service.parameters["AllowedCidr"].default == "10.0.0.0/8"
    assert host.parameters["AllowedCidr"].default is None
    ((_, balancer),) = of(service, "AWS::ElasticLoadBalancingV2::LoadBalancer")
    assert balancer["Scheme"] == {"Fn::If": ["IsPublic", "internet-facing", "internal"]}
    assert balancer["Subnets"] == {"Fn::If": ["IsPublic", {"Ref": "PublicSubnets"}, {"Ref": "PrivateSubnets"}]}
    with pytest.raises(SettingsError, match="Access public needs AllowedCidr"):
        service.check({"Access": "public"})
    service.check({"Access": "public", "AllowedCidr": "203.0.113.0/24"})
    service.check({})


def test_web_acl_is_associated_if_set() -> None:
    template = load("service")
    assert "WebAcl" not in template.resources({})
    association = template.resources({"WebAclArn": "arn"})["WebAcl"]
    assert association["Type"] == "AWS::WAFv2::WebACLAssociation"
    assert association["Properties"] == {"ResourceArn": {"Ref": "Balancer"}, "WebACLArn": {"Ref": "WebAclArn"}}


def test_two_tasks_run_in_two_zones_by_default() -> None:
    template = load("service")
    defaults = {name: item.default or "" for name, item in template.parameters.items()}
    number = {name: int(text) for name, text in defaults.items() if text.isdigit()}
    assert number["MinTasks"] == number["MinInstances"] == 2
    assert number["MaxInstances"] == 2 * number["MaxTasks"]
    ((_, service),) = of(template, "AWS::ECS::Service")
    assert service["PlacementStrategies"] == [{"Type": "spread", "Field": "attribute:ecs.availability-zone"}]
    ((_, group),) = of(template, "AWS::AutoScaling::AutoScalingGroup")
    assert group["VPCZoneIdentifier"] == {"Ref": "PrivateSubnets"}


@pytest.mark.parametrize("stack", ["service", "host"])
def test_images_are_pinned(stack: StackName) -> None:
    template = load(stack)
    ((_, launch),) = of(template, "AWS::EC2::LaunchTemplate")
    assert launch["LaunchTemplateData"]["ImageId"] == {"Ref": "AmiId"}
    assert template.parameters["AmiId"].declaration["Type"] == "AWS::EC2::Image::Id"
    assert "AWS::SSM::Parameter" not in template.body
    # The tag appears only in descriptions.
    uses = [line for line in template.body.splitlines() if "Repository}" in line]
    assert len(uses) >= 4
    assert all("@${ImageDigest}" in line for line in uses)


def test_management_is_reachable_only_from_instances_and_only_if_requested() -> None:
    template = load("service")
    assert template.parameters["Management"].default == "no"
    port = int(environment(containers()["server"])["RADSERVE_MANAGEMENT_PORT"])
    ((_, rule),) = of(template, "AWS::EC2::SecurityGroupIngress")
    assert rule["SourceSecurityGroupId"] == {"Ref": "InstanceGroup"}
    assert rule["FromPort"] == rule["ToPort"] == port
    ((_, task),) = of(template, "AWS::ECS::TaskDefinition")
    (host,) = [
        item["Value"]["Fn::If"]
        for item in task["ContainerDefinitions"][0]["Environment"]
        if item.get("Name") == "RADSERVE_MANAGEMENT_HOST"
    ]
    assert host == ["IsManaged", "0.0.0.0", "127.0.0.1"]
    added = set(template.resources({"Management": "yes"})) - set(template.resources({}))
    assert added == {"InstancesToTasks", "TasksFromInstances"}
    assert template.resources({"Management": "yes"})["InstancesToTasks"]["Properties"]["FromPort"] == port


def test_task_prepares_certificate_and_writable_folders(tmp_path: Path) -> None:
    prepare, server = containers()["prepare"], containers()["server"]
    (script,) = prepare["Command"]
    image = tmp_path / "image"
    image.mkdir()
    (image / "index.json").write_text("{}")
    data = tmp_path / "data"
    data.mkdir()
    variables = {
        "PATH": os.environ["PATH"],
        "DATA": str(data),
        "RADSERVE_MODEL_STORE": str(image),
        "RADSERVE_STORE": "",
    }
    subprocess.run([*prepare["EntryPoint"], script], env=variables, check=True, capture_output=True)
    certificate.check(data / "tls" / "certificate.pem", data / "tls" / "key.pem")
    modes = {str(path.relative_to(data)): path.stat().st_mode & 0o777 for path in data.rglob("*")}
    assert modes["tls/key.pem"] == 0o640
    assert modes["model_store/index.json"] == 0o660
    # The server's group, which is root's, can write.
    assert {name for name, mode in modes.items() if mode == 0o770} == {"model_store", "state", "tls"}
    assert not [name for name, mode in modes.items() if mode & 0o007]
    mounts = [item["MountPoints"] for item in (prepare, server)]
    assert mounts[0] == mounts[1] == [{"SourceVolume": "data", "ContainerPath": environment(prepare)["DATA"]}]
    variables = environment(server)
    for name, folder in (("MODEL_STORE", "model_store"), ("STATE", "state"), ("CERTIFICATE_KEY", "tls/key.pem")):
        assert variables[f"RADSERVE_{name}"] == f"{environment(prepare)['DATA']}/{folder}"


def test_task_that_cannot_fetch_its_archives_stops(tmp_path: Path) -> None:
    prepare = containers()["prepare"]
    (tmp_path / "radserve").write_text("#!/bin/sh\n[ \"$*\" = 'deploy fetch s3://models/1 model_store' ] && exit 3\n")
    (tmp_path / "radserve").chmod(0o755)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "DATA": str(tmp_path), "RADSERVE_STORE": "s3://models/1"}
    process = subprocess.run([*prepare["EntryPoint"], *prepare["Command"]], env=variables, check=False)
    assert process.returncode == 3
    assert containers()["server"]["DependsOn"] == [{"ContainerName": "prepare", "Condition": "SUCCESS"}]


def test_stop_timeout_exceeds_the_drain() -> None:
    longest = sum(load("service").parameters[name].declaration["MaxValue"] for name in ("DrainDelay", "DrainTimeout"))
    assert longest < containers()["server"]["StopTimeout"] == 120
    assert longest < 120 < int(re.findall(r"TimeoutStopSec=(\d+)", load("host").body)[0])


def test_containers_fit_on_the_instance() -> None:
    template = load("service")
    others = [containers()[name] for name in ("agent", "collector", "prepare")]
    sizes = {"large": (2, 8), "xlarge": (4, 16), "2xlarge": (8, 32)}
    for name, item in template.document["Mappings"]["InstanceTypes"].items():
        cores, gib = sizes[name.partition(".")[2]]
        gib = gib // 2 if name.startswith("c7i") else gib
        assert (item["Gpus"] == "1") == name.startswith("g")
        assert item["Vcpus"] == str(cores)
        assert int(item["Cpu"]) + sum(other["Cpu"] for other in others) <= 1024 * cores
        # 10% are for the operating system and the ECS agent.
        assert int(item["Memory"]) + sum(other["Memory"] for other in others) <= 1024 * gib * 0.9
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
    assert len(alarms) == 9
    for name, item in alarms.items():
        assert item["AlarmActions"] == [{"Ref": "Topic"}], name
        assert item["TreatMissingData"] in {"notBreaching", "breaching"}, name


ELSEWHERE: dict[str, tuple[StackName, str]] = {
    "GpuMemory": ("monitoring", "GpuMemory"),
    "Disk": ("monitoring", "Disk"),
    "GatewayErrors": ("front", "HttpErrors"),
    "GatewaySlow": ("front", "Slow"),
    "ResultsLost": ("front", "ResultsLost"),
    "HistoryDown": ("front", "ResultsLost"),
    "Uncounted": ("front", "Uncounted"),
}
"""Alerts of docker/prometheus whose metrics no collector on AWS has, and the alarm in place of each."""


def shipped_rules() -> dict[str, dict[str, Any]]:
    """Return all rules of docker/prometheus by name."""
    groups = [
        group
        for path in (ROOT / "docker" / "prometheus" / "rules").glob("*.yml")
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    ]
    return {rule.get("alert") or rule["record"]: rule for group in groups for rule in group["rules"]}


def workspace_rules() -> dict[str, dict[str, Any]]:
    """Return the rules of the workspace by name."""
    ((_, namespace),) = of(load("prometheus"), "AWS::APS::RuleGroupsNamespace")
    groups = yaml.safe_load(namespace["Data"])["groups"]
    return {rule.get("alert") or rule["record"]: rule for group in groups for rule in group["rules"]}


def test_every_shipped_alert_has_a_source_on_aws() -> None:
    shipped, rules = shipped_rules(), workspace_rules()
    alerts = {name for name, rule in shipped.items() if "alert" in rule}
    assert {name for name, rule in rules.items() if "alert" in rule} | set(ELSEWHERE) == alerts
    assert not set(rules) & set(ELSEWHERE)
    for name, rule in rules.items():
        assert rule == shipped[name], f"{name} differs from docker/prometheus/rules"
    for stack, alarm in ELSEWHERE.values():
        assert load(stack).document["Resources"][alarm]["Type"] == "AWS::CloudWatch::Alarm"
    page = (ROOT / "docs" / "aws.md").read_text(encoding="utf-8")
    for name in ELSEWHERE:
        assert f"`{name}`" in page, f"docs/aws.md does not say where {name} is"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)")
def test_rules_of_the_workspace_are_valid(tmp_path: Path) -> None:
    ((_, namespace),) = of(load("prometheus"), "AWS::APS::RuleGroupsNamespace")
    (tmp_path / "rules.yml").write_text(namespace["Data"])
    process = subprocess.run(
        ["promtool", "check", "rules", "--lint-fatal", tmp_path / "rules.yml"], capture_output=True, check=False
    )
    assert process.returncode == 0, process.stderr


def collectors() -> dict[str, dict[str, Any]]:
    """Return the collectors' configurations of service and host."""
    text = environment(containers()["collector"])["AOT_CONFIG_CONTENT"]["Fn::Sub"]
    host = re.search(r"collector\.yaml <<'EOF'\n(.*?)\n +EOF\n", load("host").body, re.DOTALL)
    assert host
    return {"service": yaml.safe_load(text), "host": yaml.safe_load(textwrap.dedent(host[1]))}


@pytest.mark.parametrize("home", ["service", "host"])
def test_collector_scrapes_the_jobs_of_the_rules(home: str) -> None:
    configuration = collectors()[home]
    compose = yaml.safe_load((ROOT / "docker" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    expected = {job["job_name"]: job.get("metric_relabel_configs") for job in compose}
    jobs = {item["job_name"]: item for item in configuration["receivers"]["prometheus"]["config"]["scrape_configs"]}
    assert set(jobs) == {"torchserve", "supervisor"}
    defaults = serve.ServeOptions()
    for name, port in (("torchserve", defaults.metrics_port), ("supervisor", defaults.health_port)):
        assert jobs[name]["static_configs"] == [{"targets": [f"127.0.0.1:{port}"]}]
        assert jobs[name].get("metric_relabel_configs") == expected[name]
    pipeline = configuration["service"]["pipelines"]["metrics"]
    assert {kind: set(pipeline[kind]) for kind in pipeline} == {
        kind: set(configuration[kind]) for kind in ("receivers", "processors", "exporters")
    }
    # Every task has the same loopback: without this, the series of all tasks would be one.
    assert configuration["processors"]["resource"]["attributes"][0]["key"] == "service.instance.id"
    write = configuration["exporters"]["prometheusremotewrite"]
    assert write == {"endpoint": "${RemoteWriteUrl}", "auth": {"authenticator": "sigv4auth"}}
    (statement,) = [item for stack, _, item in ALLOWED if stack == home and item.get("Sid") == "Prometheus"]
    assert (statement["Action"], statement["Resource"]) == ("aps:RemoteWrite", {"Ref": "WorkspaceArn"})


def test_alerts_reach_the_topic_of_the_alarms() -> None:
    ((_, workspace),) = of(load("prometheus"), "AWS::APS::Workspace")
    definition = yaml.safe_load(workspace["AlertManagerDefinition"]["Fn::Sub"].replace("${AWS::Region}", "REGION"))
    manager = yaml.safe_load(definition["alertmanager_config"])
    (receiver,) = manager["receivers"]
    assert manager["route"]["receiver"] == receiver["name"]
    ((_, topic),) = of(load("monitoring"), "AWS::SNS::Topic")
    assert receiver["sns_configs"][0]["topic_arn"].endswith(f":{topic['TopicName']['Fn::Sub']}")
    (statement,) = [item for _, name, item in ALLOWED if name == "TopicPolicy" and item["Sid"] == "Prometheus"]
    assert statement["Principal"] == {"Service": "aps.amazonaws.com"}
    (key,) = [item for stack, name, item in ALLOWED if (stack, name, item.get("Sid")) == ("storage", "Key", "Alarms")]
    assert "aps.amazonaws.com" in key["Principal"]["Service"]


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
    responses = {"HttpErrors", "RestErrors", "UrlErrors"}
    assert set(alarms) == {"Errors", "Throttles", "Slow", "ResultsLost", "Uncounted"} | responses
    for item in alarms.values():
        assert item["AlarmActions"]["Fn::If"][:2] == ["WithTopic", [{"Ref": "TopicArn"}]]


def test_alarms_of_the_front_match_messages_of_the_gateway() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "gateway").rglob("*.py"))
    filters = dict(of(load("front"), "AWS::Logs::MetricFilter"))
    assert set(filters) == {"ResultsLostFilter", "UncountedFilter"}
    for name, item in filters.items():
        text = item["FilterPattern"].strip('"')
        assert re.search(rf'logger\.error\("{re.escape(text)}', sources), f"{name}: no such message"


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
