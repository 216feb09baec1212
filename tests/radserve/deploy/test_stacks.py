"""Which stacks there are, in which order, and what flows from one to the next."""

from __future__ import annotations

from collections import Counter

import pytest

from radserve.deploy import stacks
from radserve.deploy.errors import SettingsError
from radserve.deploy.settings import Settings
from radserve.deploy.template import load

SERVICE = Settings(environment="demo")
HOST = Settings(environment="demo", home="host")
KEY = "arn:aws:kms:eu-central-1:123456789012:key/0"


def test_an_environment_has_one_home_and_its_stacks_in_order() -> None:
    assert stacks.chosen(SERVICE) == ("storage", "secrets", "network", "service", "monitoring")
    assert stacks.chosen(HOST) == ("storage", "secrets", "network", "host", "monitoring")
    assert stacks.chosen(SERVICE, ["network", "storage"]) == ("storage", "network")


def test_a_stack_that_an_environment_does_not_have_is_refused() -> None:
    with pytest.raises(SettingsError, match="demo has no stack 'host'"):
        stacks.chosen(SERVICE, ["host"])


@pytest.mark.parametrize("settings", [SERVICE, HOST])
def test_an_output_of_one_name_comes_from_one_stack(settings: Settings) -> None:
    names = Counter(name for stack in stacks.chosen(settings) for name in load(stack).outputs)
    assert [name for name, count in names.items() if count > 1] == []


def test_outputs_become_parameters_and_what_is_to_come_is_missing() -> None:
    network = load("network")
    assert stacks.values(network, SERVICE, {"KeyArn": KEY, "ModelBucket": "b"}) == stacks.Values(
        {"Environment": "demo", "KeyArn": KEY}, ()
    )
    assert stacks.values(network, SERVICE, {}).missing == ("KeyArn",)


def test_what_an_earlier_stack_will_give_is_not_taken_from_its_default() -> None:
    monitoring = load("monitoring")
    assert "LoadBalancerFullName" in stacks.values(monitoring, SERVICE, {"KeyArn": KEY}).missing
    values = stacks.values(monitoring, HOST, {"KeyArn": KEY})
    assert values.missing == ("InstanceId",)
    assert "Errors" not in monitoring.resources(values.all())
    assert "HostStatus" in monitoring.resources(values.all())


def test_what_is_set_wins_over_what_an_earlier_stack_gave() -> None:
    settings = Settings(environment="demo", parameters={"network": {"KeyArn": KEY + "1"}})
    assert stacks.values(load("network"), settings, {"KeyArn": KEY}).known["KeyArn"] == KEY + "1"


def test_a_parameter_that_must_be_set_is_named() -> None:
    with pytest.raises(SettingsError, match=r"service.CertificateArn is missing. Certificate in ACM"):
        stacks.values(load("service"), SERVICE, {})


def test_a_parameter_that_there_is_not_is_named_with_those_that_there_are() -> None:
    settings = Settings(environment="demo", parameters={"network": {"Egres": "one-nat"}})
    with pytest.raises(SettingsError, match=r"network.Egres is no parameter; parameters are Cidr, Egress"):
        stacks.values(load("network"), settings, {})


def test_who_needs_a_stack_is_known() -> None:
    assert stacks.users("network") == {"service", "host", "front"}
    assert stacks.users("monitoring") == {"front"}
    assert stacks.users("front") == frozenset()
