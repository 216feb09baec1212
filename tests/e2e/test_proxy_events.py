"""Access events of a real nginx that splits traffic."""

import socket
import time
from collections.abc import Iterator
from statistics import median

import httpx
import pytest

from tests.e2e.split_proxy import BODY, NAME, NEW, OLD, PATH, Split, echo, requested_path, timed
from tests.fake_supervisor import await_true
from tests.proxy import problem
from tests.radserve.scripted import Reply, Request

pytestmark = pytest.mark.e2e


@pytest.fixture
def client(split: Split) -> Iterator[httpx.Client]:
    with split.proxy.client() as http_client:
        yield http_client


def test_each_request_of_a_split_model_causes_an_access_event(client: httpx.Client, split: Split) -> None:
    split.route(100)
    with split.access_events(client) as seen:
        requested_path(client)
        requested_path(client, f"{PATH}/{OLD}")
        requested_path(client, "/predictions/other")
        assert client.post(f"{PATH}/9.9.9", content=BODY).status_code == 503
        problem(client.get(PATH), 405)
        with split.proxy.client(None) as anonymous:
            problem(anonymous.post(PATH, content=BODY), 401)
        await_true(lambda: len(seen) >= 3)
        time.sleep(0.1)
    assert [(item.model, item.version, item.pinned, item.status) for item in seen] == [
        (NAME, NEW, False, 200),
        (NAME, OLD, True, 200),
        (NAME, "9.9.9", True, 503),
    ]
    assert all(item.seconds is not None and 0 <= item.seconds < 1 for item in seen)


@pytest.mark.parametrize(
    ("header", "outcomes"),
    [
        (
            "label:a%2C%20b:2,domain:normal:1,domain:unlike:1",
            {"label": {"a, b": 2}, "domain": {"normal": 1, "unlike": 1}},
        ),
        ("x y", {}),
        ("label:a:1," * 60, {}),
    ],
    ids=["outcomes", "malformed", "too long"],
)
def test_an_access_event_has_the_outcomes_that_no_client_receives(
    client: httpx.Client, split: Split, header: str, outcomes: dict[str, dict[str, int]]
) -> None:
    split.route(100)

    with split.access_events(client) as seen:
        split.upstream.script = lambda _: Reply(200, b"{}", headers={"X-Outcome": header})
        try:
            response = client.post(PATH, content=BODY)
            await_true(lambda: len(seen) == 1)
        finally:
            split.upstream.script = echo
    assert "x-outcome" not in response.headers
    assert seen[0].outcomes == outcomes


def test_a_server_that_dies_causes_an_error_event(client: httpx.Client, split: Split) -> None:
    split.route(100)

    def die(_: Request) -> Reply:
        raise ConnectionError

    with split.access_events(client) as seen:
        split.upstream.script = die
        try:
            problem(client.post(PATH, content=BODY), 502)
            await_true(lambda: len(seen) == 1)
        finally:
            split.upstream.script = echo
    assert (seen[0].version, seen[0].status) == (NEW, 502)
    assert len(split.complaints()) == 1


def test_a_missing_listener_is_tolerated_and_a_new_one_gets_events(client: httpx.Client, split: Split) -> None:
    """The fixture checks in the end that nginx logged no warning."""
    split.route(100)
    assert not split.runtime.traffic.exists()
    requested_path(client)
    for _ in range(2):
        with split.access_events(client) as seen:
            requested_path(client)
            await_true(lambda found=seen: len(found) == 1)  # type: ignore[misc]
        requested_path(client)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:  # a listener that never reads
        deaf.bind(str(split.runtime.traffic))
        assert median(timed(client) for _ in range(100)) < 0.2
    split.runtime.traffic.unlink()
