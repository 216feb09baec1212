"""Parameters' values from settings, outputs of earlier stacks and defaults."""

from collections import Counter

import pytest

from radserve.deploy import parameters
from radserve.deploy.errors import SettingsError
from radserve.deploy.settings import Settings
from radserve.deploy.template import load

SERVICE = Settings(environment="demo")
HOST = Settings(environment="demo", home="host")
KEY = "arn:aws:kms:eu-central-1:123456789012:key/0"


@pytest.mark.parametrize("settings", [SERVICE, HOST])
def test_output_names_are_unique_in_an_environment(settings: Settings) -> None:
    names = Counter(name for stack in settings.stacks() for name in load(stack).outputs)
    assert [name for name, count in names.items() if count > 1] == []


def test_outputs_become_parameters_and_future_outputs_are_missing() -> None:
    network = load("network")
    assert parameters.resolve(network, SERVICE, {"KeyArn": KEY, "ModelBucket": "b"}) == parameters.Values(
        {"Environment": "demo", "KeyArn": KEY}, ()
    )
    assert parameters.resolve(network, SERVICE, {}).missing == ("KeyArn",)


def test_future_output_takes_precedence_over_the_default() -> None:
    monitoring = load("monitoring")
    assert "LoadBalancerFullName" in parameters.resolve(monitoring, SERVICE, {"KeyArn": KEY}).missing
    values = parameters.resolve(monitoring, HOST, {"KeyArn": KEY})
    assert values.missing == ("InstanceId",)
    assert "Errors" not in monitoring.resources(values.all())
    assert "HostStatus" in monitoring.resources(values.all())


def test_setting_takes_precedence_over_an_output() -> None:
    settings = Settings(environment="demo", parameters={"network": {"KeyArn": KEY + "1"}})
    assert parameters.resolve(load("network"), settings, {"KeyArn": KEY}).known["KeyArn"] == KEY + "1"


def test_required_parameter_is_named_when_missing() -> None:
    with pytest.raises(SettingsError, match=r"service.CertificateArn is missing. Certificate in ACM"):
        parameters.resolve(load("service"), SERVICE, {})


def test_unknown_parameter_is_rejected_with_those_available() -> None:
    settings = Settings(environment="demo", parameters={"network": {"Egres": "one-nat"}})
    with pytest.raises(SettingsError, match=r"Unknown parameter network\.Egres\. Available: Cidr, Egress"):
        parameters.resolve(load("network"), settings, {})


def test_dependents_use_outputs_of_a_stack() -> None:
    assert parameters.dependents("network") == {"service", "host", "front"}
    assert parameters.dependents("monitoring") == {"front"}
    assert parameters.dependents("front") == frozenset()
