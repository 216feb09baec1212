"""User data of instances: valid scripts that write valid configuration."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.user_data import scripts, written

SCRIPTS = dict(scripts())
STARTED = [name for name in SCRIPTS if name.count("-") == 1]
_LIMIT = 16_384
"""Largest user data in bytes (EC2 user guide)."""


def test_scripts_of_both_homes_are_checked() -> None:
    assert sorted(STARTED) == ["host-cpu", "host-gpu", "service-cpu", "service-gpu"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_is_valid_bash(name: str) -> None:
    process = subprocess.run(["bash", "-n"], input=SCRIPTS[name], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert SCRIPTS[name].splitlines()[2:3] == ["set -euo pipefail"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_is_complete_and_within_the_size_limit(name: str) -> None:
    assert "${AWS::" not in SCRIPTS[name]
    assert len(SCRIPTS[name].encode()) < _LIMIT


@pytest.mark.parametrize("name", STARTED)
def test_agent_configuration_is_json_and_includes_the_gpu(name: str) -> None:
    (text,) = [text for path, text in written(SCRIPTS[name]).items() if path.endswith("radserve.json")]
    configuration = json.loads(text)
    collected = configuration["metrics"]["metrics_collected"]
    assert ("nvidia_gpu" in collected) == name.endswith("gpu")
    assert collected["disk"]["append_dimensions"] == {"Environment": "demo"}
    assert configuration["metrics"]["namespace"] == "RadServe/demo"


@pytest.mark.parametrize("name", ["host-cpu", "host-gpu"])
def test_host_scrapes_the_servers_loopback(name: str) -> None:
    (text,) = [text for path, text in written(SCRIPTS[name]).items() if path.endswith("prometheus.yaml")]
    (job,) = yaml.safe_load(text)["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["127.0.0.1:8082"], "labels": {"Environment": "demo"}}]


@pytest.mark.parametrize("name", ["host-cpu", "host-gpu"])
def test_unit_runs_the_image_without_privileges(name: str) -> None:
    (unit,) = [text for path, text in written(SCRIPTS[name]).items() if path.endswith("radserve.service")]
    command = unit.partition("ExecStart=")[2].partition("ExecStop=")[0]
    assert ("--gpus all" in command) == name.endswith("gpu")
    assert (f"radserve/server-cpu@sha256:{'0' * 64} serve" in command) == name.endswith("cpu")
    for option in (
        "--read-only",
        "--cap-drop ALL",
        "--user 10001:0",
        "no-new-privileges",
        "--volume /var/lib/radserve:/var/lib/radserve",
    ):
        assert option in command
    variables = dict(line.split("=", 1) for line in written(SCRIPTS[name])["/etc/radserve/environment"].splitlines())
    assert variables["RADSERVE_MODEL_STORE"] == "/var/lib/radserve/model_store"
    assert variables["RADSERVE_STATE"] == "/var/lib/radserve/state"
    assert variables["RADSERVE_STORE"] == "s3://models/candidates"


def test_certificates_are_readable_only_by_the_servers_user(tmp_path: Path) -> None:
    code = SCRIPTS["host-cpu-prepare"].partition("python3 -c '\n")[2].partition("\n'\n")[0]
    own = code.replace("/run/radserve-tls/", f"{tmp_path}/").replace("os.chown(path, 10001, 0)", "pass")
    secret = json.dumps({"certificate": "CHAIN", "key": "KEY"})
    subprocess.run(["python3", "-c", own], input=secret, text=True, check=True)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "certificate.pem": "CHAIN",
        "key.pem": "KEY",
    }
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
