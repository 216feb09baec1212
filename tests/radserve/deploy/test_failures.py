"""What moto never does: stacks that fail, are stuck or are refused. botocore checks the recorded answers' shapes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.stub import Stubber

from radserve.deploy import changeset, costs, plan, progress, state
from radserve.deploy.cloud import Cloud, explained
from radserve.deploy.errors import CloudError, StackFailedError
from radserve.deploy.hints import with_hint
from radserve.deploy.progress import Event
from radserve.deploy.settings import Settings
from radserve.deploy.state import State
from radserve.deploy.template import load

NOW = datetime(2026, 5, 1, tzinfo=UTC)
ID = "arn:aws:cloudformation:eu-central-1:123456789012:stack/radserve-demo-service/1"
NAME = "radserve-demo-service"


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """Have clients that are not asked by anything but recorded answers."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return Cloud("eu-central-1")


def described(status: str, reason: str = "") -> dict[str, Any]:
    """Return what DescribeStacks says of a stack."""
    stack = {"StackId": ID, "StackName": NAME, "CreationTime": NOW, "StackStatus": status, "StackStatusReason": reason}
    return {"Stacks": [stack]}


def happened(number: int, logical: str, status: str, reason: str = "") -> dict[str, Any]:
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


def there(status: str) -> State:
    """Return a stack with a status."""
    return State("service", ID, NAME, status, "", NOW, protected=False, outputs={})


def test_a_failure_is_told_with_the_first_resources_reason_and_a_hint(cloud: Cloud) -> None:
    events = [
        happened(0, "Cluster", "CREATE_COMPLETE"),
        happened(1, "Service", "CREATE_FAILED", "Error occurred: ECS Deployment Circuit Breaker was triggered."),
        happened(2, "Instances", "CREATE_FAILED", "Resource creation cancelled"),
        happened(3, NAME, "ROLLBACK_COMPLETE"),
    ]
    shown: list[Event] = []
    with Stubber(cloud.formation) as answers:
        answers.add_response("describe_stacks", described("CREATE_IN_PROGRESS"))
        answers.add_response("describe_stack_events", {"StackEvents": events[2::-1]})
        answers.add_response("describe_stacks", described("ROLLBACK_COMPLETE"))
        answers.add_response("describe_stack_events", {"StackEvents": events[::-1]})
        with pytest.raises(StackFailedError) as caught:
            progress.follow(cloud, "service", ID, {"0"}, shown.append, poll=0)
    assert [item.id for item in shown] == ["1", "2", "3"]
    assert str(caught.value).startswith(f"{NAME} is ROLLBACK_COMPLETE: Service (AWS::ECS::Service): Error occurred")
    assert "Is the image pushed, and does the secret hold keys?" in str(caught.value)


def test_an_update_that_cleans_up_behind_itself_is_done(cloud: Cloud) -> None:
    with Stubber(cloud.formation) as answers:
        answers.add_response("describe_stacks", described("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"))
        answers.add_response("describe_stack_events", {"StackEvents": []})
        done = progress.follow(cloud, "service", ID, set(), lambda _: None, poll=0)
    assert done.status == "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"


@pytest.mark.parametrize(
    "reason", ["The submitted information didn't contain changes.", "No updates are to be performed."]
)
def test_a_change_set_without_changes_is_none_and_is_deleted(cloud: Cloud, reason: str) -> None:
    with Stubber(cloud.formation) as answers:
        answers.add_response("create_change_set", {"Id": "set", "StackId": ID})
        answers.add_response("describe_change_set", {"Status": "FAILED", "StatusReason": reason})
        answers.add_response("delete_change_set", {})
        found = changeset.create(cloud, NAME, load("service"), {}, {}, there("CREATE_COMPLETE"))
        answers.assert_no_pending_responses()
    assert found is None


def test_a_change_set_that_cannot_be_made_says_why(cloud: Cloud) -> None:
    with Stubber(cloud.formation) as answers:
        answers.add_response("create_change_set", {"Id": "set", "StackId": ID})
        answers.add_response(
            "describe_change_set", {"Status": "FAILED", "StatusReason": "Template error: no such thing"}
        )
        answers.add_response("delete_change_set", {})
        with pytest.raises(StackFailedError, match="Template error: no such thing"):
            changeset.create(cloud, NAME, load("service"), {}, {}, there("CREATE_COMPLETE"))


def test_a_change_set_in_pages_is_read_to_its_end(cloud: Cloud) -> None:
    def page(logical: str, **more: str) -> dict[str, Any]:
        change = {"Action": "Modify", "LogicalResourceId": logical, "ResourceType": "T", "Replacement": "True"}
        return {"Status": "CREATE_COMPLETE", "Changes": [{"Type": "Resource", "ResourceChange": change}], **more}

    with Stubber(cloud.formation) as answers:
        answers.add_response("create_change_set", {"Id": "set", "StackId": ID})
        answers.add_response("describe_change_set", page("B", NextToken="more"))
        answers.add_response("describe_change_set", page("A"))
        found = changeset.create(cloud, NAME, load("service"), {}, {}, there("CREATE_COMPLETE"))
    assert found is not None
    assert found.changes == (changeset.Change("A", "T", "Modify", "True"), changeset.Change("B", "T", "Modify", "True"))


@pytest.mark.parametrize(
    ("status", "said"),
    [("UPDATE_IN_PROGRESS", "somebody changes it"), ("UPDATE_ROLLBACK_FAILED", "Continue or delete it")],
)
def test_a_stack_that_is_being_changed_or_is_stuck_is_left_alone(status: str, said: str) -> None:
    with pytest.raises(StackFailedError, match=said):
        plan.check(Settings(environment="demo"), {"service": there(status)})


def test_what_a_failed_creation_left_is_planned_as_a_creation(cloud: Cloud) -> None:
    with Stubber(cloud.formation) as answers:
        left = described("ROLLBACK_COMPLETE")
        left["Stacks"][0]["StackName"] = "radserve-demo-storage"
        answers.add_response("describe_stacks", left)
        for _ in range(6):
            answers.add_client_error("describe_stacks", "ValidationError", "Stack with id x does not exist")
        (found,) = plan.plan(cloud, Settings(environment="demo"), ["storage"])
    assert found.kind == "create"
    assert "ROLLBACK_COMPLETE, nothing in it" in found.note
    assert {item.action for item in found.changes} == {"Add"}


def test_a_stack_that_is_not_there_is_told_from_a_refusal(cloud: Cloud) -> None:
    with Stubber(cloud.formation) as answers:
        answers.add_client_error(
            "describe_stacks", "ValidationError", "Stack with id radserve-demo-service does not exist"
        )
        assert state.find(cloud, "demo", "service") is None
    with Stubber(cloud.formation) as answers:
        answers.add_client_error("describe_stacks", "AccessDenied", "User is not authorized")
        with pytest.raises(CloudError, match="may not do DescribeStacks"), explained():
            state.find(cloud, "demo", "service")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("ExpiredToken", "the AWS credentials have expired. Sign in again"),
        ("InvalidClientTokenId", "AWS does not accept the credentials"),
        ("Throttling", "DescribeStacks: "),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_do(cloud: Cloud, code: str, said: str) -> None:
    with Stubber(cloud.formation) as answers:
        answers.add_client_error("describe_stacks", code, "no")
        with pytest.raises(CloudError, match=said), explained():
            state.find(cloud, "demo", "service")


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
def test_known_reasons_come_with_a_hint(reason: str, hint: str) -> None:
    assert hint in with_hint(reason)


def test_an_unknown_reason_stays_as_it_is() -> None:
    assert with_hint("It rains.") == "It rains."


def test_only_what_costs_money_is_named() -> None:
    assert costs.of({"Type": "AWS::EC2::VPC"}) is None
    assert costs.of({"Type": "AWS::EC2::VPCEndpoint", "Properties": {"VpcEndpointType": "Gateway"}}) is None
    assert costs.of({"Type": "AWS::EC2::VPCEndpoint", "Properties": {"VpcEndpointType": "Interface"}})
