"""Stacks that fail, are stuck or are rejected, which moto never does; botocore validates the recorded responses."""

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.stub import Stubber

from radserve.deploy import costs, plan, stack
from radserve.deploy.aws_clients import Cloud, readable_errors
from radserve.deploy.errors import CloudError, StackError
from radserve.deploy.failure_advice import with_advice
from radserve.deploy.settings import STACKS, Settings
from radserve.deploy.stack import Change, Event, Stack
from radserve.deploy.template import load

NOW = datetime(2026, 5, 1, tzinfo=UTC)
ID = "arn:aws:cloudformation:eu-central-1:123456789012:stack/radserve-demo-service/1"
NAME = "radserve-demo-service"


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """Clients with test credentials."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return Cloud("eu-central-1")


def description(status: str, reason: str = "") -> dict[str, Any]:
    """Return a response of DescribeStacks."""
    item = {"StackId": ID, "StackName": NAME, "CreationTime": NOW, "StackStatus": status, "StackStatusReason": reason}
    return {"Stacks": [item]}


def event(number: int, logical: str, status: str, reason: str = "") -> dict[str, Any]:
    """Return one event of DescribeStackEvents."""
    return {
        "StackId": ID,
        "EventId": str(number),
        "StackName": NAME,
        "LogicalResourceId": logical,
        "ResourceType": "AWS::ECS::Service",
        "Timestamp": NOW,
        "ResourceStatus": status,
        "ResourceStatusReason": reason,
    }


def existing(status: str) -> Stack:
    """Return a stack with a status."""
    return Stack("service", ID, NAME, status, "", NOW, protected=False, outputs={})


def test_failure_has_the_reason_of_the_first_failed_resource_and_a_hint(cloud: Cloud) -> None:
    events = [
        event(0, "Cluster", "CREATE_COMPLETE"),
        event(1, "Service", "CREATE_FAILED", "Error occurred: ECS Deployment Circuit Breaker was triggered."),
        event(2, "Instances", "CREATE_FAILED", "Resource creation cancelled"),
        event(3, NAME, "ROLLBACK_COMPLETE"),
    ]
    shown: list[Event] = []
    with Stubber(cloud.formation) as responses:
        responses.add_response("describe_stacks", description("CREATE_IN_PROGRESS"))
        responses.add_response("describe_stack_events", {"StackEvents": events[2::-1]})
        responses.add_response("describe_stacks", description("ROLLBACK_COMPLETE"))
        responses.add_response("describe_stack_events", {"StackEvents": events[::-1]})
        with pytest.raises(StackError) as caught:
            shown.extend(stack.follow(cloud, "service", ID, {"0"}, poll=0))
    assert [item.id for item in shown] == ["1", "2", "3"]
    assert str(caught.value).startswith(f"{NAME} is ROLLBACK_COMPLETE: Service (AWS::ECS::Service): Error occurred")
    assert "Check that the image is pushed and the secret holds keys." in str(caught.value)


def test_update_ends_when_only_the_cleanup_is_left(cloud: Cloud) -> None:
    with Stubber(cloud.formation) as responses:
        responses.add_response("describe_stacks", description("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"))
        responses.add_response("describe_stack_events", {"StackEvents": []})
        assert list(stack.follow(cloud, "service", ID, set(), poll=0)) == []


@pytest.mark.parametrize(
    "reason", ["The submitted information didn't contain changes.", "No updates are to be performed."]
)
def test_change_set_without_changes_is_deleted(cloud: Cloud, reason: str) -> None:
    with Stubber(cloud.formation) as responses:
        responses.add_response("create_change_set", {"Id": "set", "StackId": ID})
        responses.add_response("describe_change_set", {"Status": "FAILED", "StatusReason": reason})
        responses.add_response("delete_change_set", {})
        change_set = stack.create_change_set(cloud, NAME, load("service"), {}, {}, new=False)
        responses.assert_no_pending_responses()
    assert change_set is None


def test_failed_change_set_has_cloudformations_reason(cloud: Cloud) -> None:
    with Stubber(cloud.formation) as responses:
        responses.add_response("create_change_set", {"Id": "set", "StackId": ID})
        responses.add_response(
            "describe_change_set", {"Status": "FAILED", "StatusReason": "Template error: no such thing"}
        )
        responses.add_response("delete_change_set", {})
        with pytest.raises(StackError, match="Template error: no such thing"):
            stack.create_change_set(cloud, NAME, load("service"), {}, {}, new=False)


def test_all_pages_of_a_change_set_are_read(cloud: Cloud) -> None:
    def page(logical: str, **more: str) -> dict[str, Any]:
        change = {"Action": "Modify", "LogicalResourceId": logical, "ResourceType": "T", "Replacement": "True"}
        return {"Status": "CREATE_COMPLETE", "Changes": [{"Type": "Resource", "ResourceChange": change}], **more}

    with Stubber(cloud.formation) as responses:
        responses.add_response("create_change_set", {"Id": "set", "StackId": ID})
        responses.add_response("describe_change_set", page("B", NextToken="more"))  # for the waiter
        responses.add_response("describe_change_set", page("B", NextToken="more"))
        responses.add_response("describe_change_set", page("A"))
        change_set = stack.create_change_set(cloud, NAME, load("service"), {}, {}, new=False)
    assert change_set is not None
    assert change_set.changes == (Change("A", "T", "Modify", "True"), Change("B", "T", "Modify", "True"))


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("UPDATE_IN_PROGRESS", "another change is in progress"),
        ("UPDATE_ROLLBACK_FAILED", "Continue its rollback or delete it"),
    ],
)
def test_busy_or_stuck_stack_is_not_changed(status: str, message: str) -> None:
    with pytest.raises(StackError, match=message):
        plan.check(Settings(environment="demo"), {"service": existing(status)})


def test_stack_of_a_failed_creation_is_planned_as_a_creation(cloud: Cloud) -> None:
    with Stubber(cloud.formation) as responses:
        remains = description("ROLLBACK_COMPLETE")
        remains["Stacks"][0]["StackName"] = "radserve-demo-storage"
        responses.add_response("describe_stacks", remains)
        for _ in range(len(STACKS) - 1):
            responses.add_client_error("describe_stacks", "ValidationError", "Stack with id x does not exist")
        (planned,) = plan.plan(cloud, Settings(environment="demo"), ["storage"])
    assert planned.action == "create"
    assert "(ROLLBACK_COMPLETE) is deleted first" in planned.note
    assert {item.action for item in planned.changes} == {"Add"}


def test_missing_stack_is_distinguished_from_a_denied_request(cloud: Cloud) -> None:
    with Stubber(cloud.formation) as responses:
        responses.add_client_error(
            "describe_stacks", "ValidationError", "Stack with id radserve-demo-service does not exist"
        )
        assert stack.describe(cloud, "service", NAME) is None
    with Stubber(cloud.formation) as responses:
        responses.add_client_error("describe_stacks", "AccessDenied", "User is not authorized")
        with pytest.raises(CloudError, match="lack permission for DescribeStacks"), readable_errors():
            stack.describe(cloud, "service", NAME)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ExpiredToken", "The AWS credentials have expired. Sign in again"),
        ("InvalidClientTokenId", "AWS rejected the credentials"),
        ("Throttling", "DescribeStacks: "),
    ],
)
def test_rejected_request_gives_a_message_with_advice(cloud: Cloud, code: str, message: str) -> None:
    with Stubber(cloud.formation) as responses:
        responses.add_client_error("describe_stacks", code, "no")
        with pytest.raises(CloudError, match=message), readable_errors():
            stack.describe(cloud, "service", NAME)


def test_throttling_is_retried_by_botocore(cloud: Cloud) -> None:
    retries = cloud.formation.meta.config.retries  # type: ignore[attr-defined]  # botocore's stubs have not all options
    assert retries == {"mode": "standard", "total_max_attempts": 9}


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        ("You have requested more vCPU capacity than your current vCPU limit of 0 allows", "Service Quotas"),
        ("radserve/server already exists in stack arn", "storage.Repositories=existing"),
        ("Failed to receive 1 resource signal(s) within the specified duration", "The host did not become ready"),
        ("Load balancer cannot be deleted because deletion protection is enabled", "service.DeletionProtection"),
    ],
)
def test_known_reason_gets_a_hint(reason: str, hint: str) -> None:
    assert hint in with_advice(reason)


def test_unknown_reason_is_unchanged() -> None:
    assert with_advice("It rains.") == "It rains."


def test_free_resources_have_no_price_unit() -> None:
    assert costs.unit({"Type": "AWS::EC2::VPC"}) is None
    assert costs.unit({"Type": "AWS::EC2::VPCEndpoint", "Properties": {"VpcEndpointType": "Gateway"}}) is None
    assert costs.unit({"Type": "AWS::EC2::VPCEndpoint", "Properties": {"VpcEndpointType": "Interface"}})
