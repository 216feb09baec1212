"""What stands before a path, and what a client may write into an event's headers."""

from __future__ import annotations

import pytest

from gateway.lambda_.event import client_address, path_prefix, sanitize
from tests.gateway.lambda_ import events


@pytest.mark.parametrize(
    ("event", "before"),
    [
        (events.rest("GET", "/api/models"), ""),
        (events.rest("GET", "/prod/models"), ""),  # a REST API's path has no stage
        (events.rest("GET", "/api/models", base="/radserve"), "/radserve"),
        (events.http("GET", "/api/models"), ""),
        (events.http("GET", "/api/models", stage="prod"), "/prod"),
        (events.http("GET", "/", stage="prod"), "/prod"),
        (events.http("GET", "/api/models", stage="api"), "/api"),
        (events.http("GET", "/api/models", stage="api", route="ANY /{proxy+}"), "/api"),
        (events.http_v1("GET", "/api/models"), "/prod"),
        (events.url("GET", "/api/models"), ""),
        (events.alb("GET", "/api/models"), ""),
    ],
)
def test_stages_and_mappings_are_told_from_the_path(event: events.Event, before: str) -> None:
    assert path_prefix(event) == before


def test_a_stage_that_the_path_does_not_begin_with_is_none() -> None:
    event = events.http("GET", "/production/live", stage="$default")
    event["requestContext"]["stage"] = "prod"
    assert path_prefix(event) == ""


def test_only_header_fields_that_are_no_numbers_where_one_is_needed_are_left_out() -> None:
    sent = {"Host": "a:b", "X-Forwarded-Port": "443, 80", "Accept": "*/*"}
    event = {"headers": sent, "multiValueHeaders": {name: [value] for name, value in sent.items()}, "path": "/"}
    assert sanitize(event) == {"headers": {"Accept": "*/*"}, "multiValueHeaders": {"Accept": ["*/*"]}, "path": "/"}
    right = {"headers": {"host": "localhost:3000"}}
    assert sanitize(right) == right
    assert sanitize({"headers": None, "path": "/"}) == {"headers": {}, "path": "/"}


def test_who_asked_a_load_balancer_is_what_that_says_and_not_the_client() -> None:
    assert client_address(events.alb("GET", "/"), "203.0.113.7, 192.0.2.1") == "192.0.2.1"
    assert client_address(events.alb("GET", "/"), "192.0.2.1") == "192.0.2.1"
    assert client_address(events.url("GET", "/"), "192.0.2.1") == "192.0.2.1"
    assert client_address(events.url("GET", "/"), None) == ""
