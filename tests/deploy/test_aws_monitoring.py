"""Metrics, rules, alarms and dashboards of the CloudFormation templates."""

import json
import re
import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from radserve.cli import serve
from radserve.deploy.settings import StackName
from radserve.deploy.template import FOLDER, load
from tests.deploy.aws_templates import ALLOWED, containers, environment, of
from tests.server import ROOT


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
    "ResponsesDiscarded": ("front", "HttpErrors"),
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


def test_every_shipped_alert_except_information_has_a_source_on_aws() -> None:
    shipped, rules = shipped_rules(), workspace_rules()
    # The topic is for persons who act. The PACS loop runs in the hospital.
    rated = {name: rule["labels"]["severity"] for name, rule in shipped.items() if "alert" in rule}
    alerts = {name for name, severity in rated.items() if severity != "info" and not name.startswith("Pacs")}
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
