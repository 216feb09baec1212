"""Instances and tasks of the CloudFormation templates."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from radserve.cli import serve
from radserve.deploy.errors import SettingsError
from radserve.deploy.settings import StackName
from radserve.deploy.template import load
from radserve.proxy import certificate
from radserve.server.options import ServerOptions
from tests.deploy.aws_templates import containers, environment, of


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


def test_a_start_ends_before_a_health_check_replaces_the_task() -> None:
    ((_, service),) = of(load("service"), "AWS::ECS::Service")
    assert service["HealthCheckGracePeriodSeconds"] > ServerOptions.startup_timeout


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
