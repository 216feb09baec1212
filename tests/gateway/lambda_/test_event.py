"""Corrections of Lambda events."""

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
def test_stage_or_mapping_is_path_prefix(event: events.Event, before: str) -> None:
    assert path_prefix(event) == before


def test_stage_missing_in_path_is_ignored() -> None:
    event = events.http("GET", "/production/live", stage="$default")
    event["requestContext"]["stage"] = "prod"
    assert path_prefix(event) == ""


def test_unparsable_header_fields_are_removed() -> None:
    sent = {"Host": "a:b", "X-Forwarded-Port": "443, 80", "Accept": "*/*"}
    event = {"headers": sent, "multiValueHeaders": {name: [value] for name, value in sent.items()}, "path": "/"}
    assert sanitize(event) == {"headers": {"Accept": "*/*"}, "multiValueHeaders": {"Accept": ["*/*"]}, "path": "/"}
    right = {"headers": {"host": "localhost:3000"}}
    assert sanitize(right) == right
    assert sanitize({"headers": None, "path": "/"}) == {"headers": {}, "path": "/"}


def test_load_balancer_determines_client_address() -> None:
    assert client_address(events.alb("GET", "/"), "203.0.113.7, 192.0.2.1") == "192.0.2.1"
    assert client_address(events.alb("GET", "/"), "192.0.2.1") == "192.0.2.1"
    assert client_address(events.url("GET", "/"), "192.0.2.1") == "192.0.2.1"
    assert client_address(events.url("GET", "/"), None) == ""
