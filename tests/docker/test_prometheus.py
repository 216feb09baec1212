"""Prometheus' configuration and rules, by promtool."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

FOLDER = ROOT / "docker" / "prometheus"
RULES = FOLDER / "rules"
TESTS = sorted((FOLDER / "tests").glob("*.yml"))
ALERTS: dict[str, Any] = {
    rule["alert"]: rule
    for group in yaml.safe_load((RULES / "alerts.yml").read_bytes())["groups"]
    for rule in group["rules"]
}

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)")


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=300, check=False)


def expectations(alert: str) -> list[bool]:
    """Return for each unit test of an alert whether it must fire."""
    tests = [test for file in TESTS for test in yaml.safe_load(file.read_bytes())["tests"]]
    return [
        bool(item.get("exp_alerts")) for test in tests for item in test["alert_rule_test"] if item["alertname"] == alert
    ]


def test_configuration_is_valid(tmp_path: Path) -> None:
    text = (FOLDER / "prometheus.yml").read_text()
    for name in re.findall(r"/run/secrets/\w+", text):
        mounted = tmp_path / Path(name).name
        mounted.write_text("stands for what compose mounts")
        text = text.replace(name, str(mounted))
    (tmp_path / "prometheus.yml").write_text(text.replace("/etc/prometheus/rules", str(RULES)))
    process = promtool("check", "config", "--lint-fatal", tmp_path / "prometheus.yml")
    assert process.returncode == 0, process.stdout + process.stderr
    assert f"{len(list(RULES.glob('*.yml')))} rule files found" in process.stdout


def test_rules_are_valid() -> None:
    process = promtool("check", "rules", "--lint-fatal", *sorted(RULES.glob("*.yml")))
    assert process.returncode == 0, process.stdout + process.stderr


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_unit_tests_of_alerts_pass(file: Path) -> None:
    process = promtool("test", "rules", file)
    assert process.returncode == 0, process.stdout + process.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_has_unit_tests_for_firing_and_not_firing(alert: str) -> None:
    assert set(expectations(alert)) == {True, False}


@pytest.mark.parametrize("expression", ["vector(1)", "vector(0) > 1"], ids=["always", "never"])
@pytest.mark.parametrize("alert", ALERTS)
def test_unit_tests_fail_for_an_alert_that_always_or_never_fires(alert: str, expression: str, tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    shutil.copy(RULES / "recording.yml", tmp_path / "rules")
    rules = yaml.safe_load((RULES / "alerts.yml").read_bytes())
    for group in rules["groups"]:
        for rule in group["rules"]:
            if rule["alert"] == alert:
                rule |= {"expr": expression, "for": "0s"}
    (tmp_path / "rules" / "alerts.yml").write_text(yaml.safe_dump(rules))
    (file,) = [item for item in TESTS if f"alertname: {alert}\n" in item.read_text()]
    tests = yaml.safe_load(file.read_bytes())
    selected = [test for test in tests["tests"] if any(item["alertname"] == alert for item in test["alert_rule_test"])]
    tests |= {"tests": selected, "rule_files": ["rules/recording.yml", "rules/alerts.yml"]}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))
    process = promtool("test", "rules", tmp_path / "tests.yml")
    assert process.returncode == 1, process.stdout
    assert f"alertname: {alert}" in process.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_has_a_description_and_a_section_in_the_runbook(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^## (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor == alert.lower()
    assert alert in headings


def test_runbook_sections_match_the_alerts() -> None:
    page = (ROOT / "docs" / "runbook.md").read_text()
    assert set(re.findall(r"^## (.+)$", page, re.MULTILINE)) == set(ALERTS)
    assert set(re.findall(r"\(#(\w+)\)", page)) <= {alert.lower() for alert in ALERTS}


def test_keys_are_files_and_sent_only_over_tls() -> None:
    jobs = {job["job_name"]: job for job in yaml.safe_load((FOLDER / "prometheus.yml").read_bytes())["scrape_configs"]}
    for name in ("torchserve", "supervisor", "gateway"):
        assert set(jobs[name]["authorization"]) == {"credentials_file"}
        assert jobs[name]["scheme"] == "https"
        assert set(jobs[name]["tls_config"]) == {"ca_file"}
        assert jobs[name]["metrics_path"] == f"/metrics/{name}"
    assert not [name for name, job in jobs.items() if "authorization" in job and job["scheme"] != "https"]


OPTIONAL = {"gateway", "node", "gpu", "pacs"}
"""Jobs of parts that a deployment may lack."""


def test_optional_parts_have_targets_only_where_they_are_deployed(tmp_path: Path) -> None:
    jobs = {job["job_name"]: job for job in yaml.safe_load((FOLDER / "prometheus.yml").read_bytes())["scrape_configs"]}
    static = {name for name, job in jobs.items() if "static_configs" in job}
    assert static == {"torchserve", "supervisor", "prometheus"}
    assert set(jobs) - static == OPTIONAL
    for name in OPTIONAL:
        # One file per job, so that no job scrapes the targets of another.
        assert jobs[name]["file_sd_configs"] == [{"files": [f"/etc/prometheus/targets/{name}.yml"]}]
        (group,) = yaml.safe_load((FOLDER / f"{name}.yml").read_bytes())
        assert list(group) == ["targets"]


def test_compose_mounts_the_targets_of_the_parts_that_it_runs() -> None:
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_bytes())["services"]
    mounts = re.findall(
        r"\$\{RADSERVE_\w+_TARGETS:-(\S+)\}:/etc/prometheus/targets/(\w+)\.yml:ro",
        "\n".join(compose["prometheus"]["volumes"]),
    )
    assert {name: source for source, name in mounts} == {
        "gateway": "./prometheus/gateway.yml",
        "node": "./prometheus/node.yml",
        "gpu": "/dev/null",
        "pacs": "/dev/null",
    }
    assert {"gateway", "node-exporter"} <= set(compose)
