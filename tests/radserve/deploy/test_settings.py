"""The environment's file and changes from the command line."""

from pathlib import Path

import pytest

from radserve.deploy.errors import SettingsError
from radserve.deploy.settings import Settings, load
from tests.radserve.deploy.conftest import ROOT


def write(folder: Path, text: str) -> Path:
    """Write a file."""
    path = folder / "environment.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_example_is_valid() -> None:
    settings = load(ROOT / "radserve" / "deploy" / "example-environment.yaml")
    assert settings.environment == "demo"
    assert settings.parameters["service"]["MaxTasks"] == "4"
    assert settings.all_tags() == {"owner": "radiology", "radserve:environment": "demo"}


def test_values_are_kept_as_text(tmp_path: Path) -> None:
    path = write(tmp_path, "environment: demo\nparameters: {service: {ImageTag: 0.10}, network: {Egress: no}}\n")
    assert load(path).parameters == {"service": {"ImageTag": "0.10"}, "network": {"Egress": "no"}}


def test_changes_set_settings_tags_and_parameters(tmp_path: Path) -> None:
    path = write(tmp_path, "environment: demo\nparameters: {service: {MaxTasks: 2}}\n")
    changes = ["region=eu-west-1", "tags.owner=a=b", "service.MaxTasks=4", "monitoring.AlarmEmail=a@b.de"]
    settings = load(path, changes)
    assert settings.region == "eu-west-1"
    assert settings.tags == {"owner": "a=b"}
    assert settings.parameters == {"service": {"MaxTasks": "4"}, "monitoring": {"AlarmEmail": "a@b.de"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("region: eu-west-1", "environment is missing."),
        ("environment: Demo", "environment has value 'Demo'."),
        ("environment: demo\nhouse: host", "unknown setting house. Available: environment, region, home"),
        ("environment: demo\nhome: lambda", "home has value 'lambda'."),
        ("environment: demo\nparameters: {databse: {}}", "parameters.databse has value 'databse'."),
        ("environment: demo\nparameters: {host: {ImageTag: 1}}", "parameters.host cannot be used with home service"),
        ("environment: demo\ntermination_protection: maybe", "termination_protection has value 'maybe'."),
        ("just text", "has no settings"),
        ("a: [", "invalid YAML"),
    ],
)
def test_invalid_file_is_rejected_with_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(write(tmp_path, text))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("service.MaxTasks", "expected KEY=VALUE"),
        ("=2", "expected KEY=VALUE"),
        ("sevice.MaxTasks=2", "unknown stack 'sevice'"),
        ("parameters.service.MaxTasks=2", "unknown stack 'parameters'"),
        ("house=host", "unknown setting house"),
    ],
)
def test_invalid_change_is_rejected_with_the_key(tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(write(tmp_path, "environment: demo"), [change])
    assert message in str(caught.value)


def test_missing_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        load(tmp_path / "nothing.yaml")


def test_change_of_a_section_without_keys_is_rejected(tmp_path: Path) -> None:
    path = write(tmp_path, "environment: demo\nparameters: {service: 2}\n")
    with pytest.raises(SettingsError, match="the file has no mapping for service"):
        load(path, ["service.MaxTasks=2"])


def test_change_fills_an_empty_section(tmp_path: Path) -> None:
    path = write(tmp_path, "environment: demo\nparameters:\n")
    assert load(path, ["service.MaxTasks=4"]).parameters == {"service": {"MaxTasks": "4"}}


def test_environment_has_one_home_and_its_stacks_in_order() -> None:
    service = Settings(environment="demo")
    assert service.stacks() == ("storage", "secrets", "network", "prometheus", "service", "monitoring")
    assert service.stacks(["network", "storage"]) == ("storage", "network")
    host = Settings(environment="demo", home="host", prometheus=False)
    assert host.stacks() == ("storage", "secrets", "network", "host", "monitoring")


def test_stack_that_the_environment_does_not_have_is_rejected() -> None:
    with pytest.raises(SettingsError, match=r"demo has no stack 'host'\. Available: storage, secrets, network"):
        Settings(environment="demo").stacks(["host"])
