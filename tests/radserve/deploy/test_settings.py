"""The environment's file, and what the command line changes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from radserve.deploy.errors import SettingsError
from radserve.deploy.settings import load
from tests.radserve.deploy.conftest import ROOT


def written(folder: Path, text: str) -> Path:
    """Write a file."""
    path = folder / "environment.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_example_is_read() -> None:
    settings = load(ROOT / "radserve" / "deploy" / "templates" / "example.yaml")
    assert settings.environment == "demo"
    assert settings.parameters["service"]["MaxTasks"] == "2"
    assert settings.all_tags() == {"owner": "radiology", "radserve:environment": "demo"}


def test_values_stay_the_text_that_was_written(tmp_path: Path) -> None:
    path = written(tmp_path, "environment: demo\nparameters: {service: {ImageTag: 0.10}, network: {Egress: no}}\n")
    assert load(path).parameters == {"service": {"ImageTag": "0.10"}, "network": {"Egress": "no"}}


def test_the_command_line_changes_settings_tags_and_parameters(tmp_path: Path) -> None:
    path = written(tmp_path, "environment: demo\nparameters: {service: {MaxTasks: 2}}\n")
    changes = ["region=eu-west-1", "tags.owner=a=b", "service.MaxTasks=4", "monitoring.AlarmEmail=a@b.de"]
    settings = load(path, changes)
    assert settings.region == "eu-west-1"
    assert settings.tags == {"owner": "a=b"}
    assert settings.parameters == {"service": {"MaxTasks": "4"}, "monitoring": {"AlarmEmail": "a@b.de"}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("region: eu-west-1", "environment is missing."),
        ("environment: Demo", "environment has value 'Demo'."),
        ("environment: demo\nhouse: host", "house is no setting; settings are environment, region, home"),
        ("environment: demo\nhome: lambda", "home has value 'lambda'."),
        ("environment: demo\nparameters: {databse: {}}", "parameters.databse has value 'databse'."),
        ("environment: demo\nparameters: {host: {ImageTag: 1}}", "parameters.host does not go with home service"),
        ("environment: demo\ntermination_protection: maybe", "termination_protection has value 'maybe'."),
        ("just text", "holds no settings"),
        ("a: [", "is no YAML"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(written(tmp_path, text))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("service.MaxTasks", "write KEY=VALUE"),
        ("=2", "write KEY=VALUE"),
        ("sevice.MaxTasks=2", "'sevice' is no stack"),
        ("parameters.service.MaxTasks=2", "'parameters' is no stack"),
        ("house=host", "house is no setting"),
    ],
)
def test_what_is_wrong_in_a_change_is_named(tmp_path: Path, change: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(written(tmp_path, "environment: demo"), [change])
    assert said in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        load(tmp_path / "nothing.yaml")
