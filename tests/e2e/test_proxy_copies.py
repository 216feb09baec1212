"""Copies of requests that a real nginx sends for a shadow."""

import math
import socket
import time
from collections.abc import Iterator
from statistics import median

import httpx
import pytest

from tests.e2e.split_proxy import BODY, HEADERS, NAME, OLD, PATH, Split, requested_path, timed
from tests.fake_supervisor import controlled
from tests.proxy import problem

pytestmark = pytest.mark.e2e


@pytest.fixture
def client(split: Split) -> Iterator[httpx.Client]:
    with split.proxy.client() as http_client:
        yield http_client


def test_a_copy_has_the_body_and_its_headers(client: httpx.Client, split: Split) -> None:
    split.route(0, shadow=100)
    long = bytes(3 << 20)  # longer than nginx's buffer in memory
    with controlled(split.runtime.control) as control:
        for body in (BODY, long, b""):
            headers = HEADERS | {"X-Actor": "me", "X-Key-Name": "me"}
            sent = client.post(f"{PATH}?repair=invert", content=body, headers=headers)
            assert sent.json() == {"path": f"{PATH}/{OLD}", "length": len(body)}
            copy = control.copies(1).pop()
            assert (copy.method, copy.path, copy.query, copy.body) == ("POST", f"/shadow/{NAME}", "", body)
            assert copy.headers["x-request-id"] == sent.headers["x-request-id"]
            assert copy.headers["content-type"] == "image/png"
            assert copy.headers["x-repair"] == "invert"
            assert not {"x-api-key", "authorization", "x-actor", "x-key-name"} & set(copy.headers)
        chunked = client.post(PATH, content=iter([BODY, BODY]), headers=HEADERS)
        assert chunked.json()["length"] == 2 * len(BODY)
        assert control.copies(1).pop().body == BODY + BODY


def test_only_predictions_without_a_version_are_copied(client: httpx.Client, split: Split) -> None:
    split.route(0, shadow=100)
    with controlled(split.runtime.control) as control:
        requested_path(client, f"{PATH}/{OLD}")
        requested_path(client, f"/explanations/{NAME}")
        requested_path(client, "/predictions/other")
        with split.proxy.client(None) as anonymous:
            problem(anonymous.post(PATH, content=BODY), 401)
        requested_path(client)
        control.copies(1)
        time.sleep(0.1)
        assert len(control.requests) == 1


def test_the_share_of_copies_is_as_configured(client: httpx.Client, split: Split) -> None:
    count, share = 400, 0.25
    split.route(0, shadow=100 * share)
    with controlled(split.runtime.control) as control:
        for _ in range(count):
            requested_path(client)
        time.sleep(0.2)
        assert abs(len(control.requests) - count * share) < 4 * math.sqrt(count * share * (1 - share))


def test_a_response_does_not_wait_for_its_copy(client: httpx.Client, split: Split) -> None:
    split.route(0)
    requested_path(client)
    usual = median(timed(client) for _ in range(20))
    split.route(0, shadow=100)
    with controlled(split.runtime.control) as control:
        control.delay = 1
        seconds = []
        for _ in range(5):
            seconds.append(timed(client))
            time.sleep(0.15)  # the next request over the connection waits until the copy is abandoned, for 100 ms
        assert median(seconds) < usual + 0.05
        assert median(timed(client) for _ in range(5)) < 0.5
        assert len(control.copies(10)) == 10
    assert all("upstream timed out" in line for line in split.complaints())


@pytest.mark.parametrize("dead", ["absent", "left behind", "deaf"])
def test_a_lost_copy_does_not_affect_the_client(client: httpx.Client, split: Split, dead: str) -> None:
    split.route(0, shadow=100)
    with socket.socket(socket.AF_UNIX) as opened:
        if dead != "absent":
            opened.bind(str(split.runtime.control))
        if dead == "deaf":
            opened.listen(1)
        for body in (BODY, bytes(3 << 20)):
            start = time.monotonic()
            answers = [client.post(PATH, content=body, headers=HEADERS) for _ in range(5)]
            assert {answer.status_code for answer in answers} == {200}
            assert time.monotonic() - start < 10  # nginx abandons a copy after 100 ms, by default after 60 s
    split.runtime.control.unlink(missing_ok=True)
    assert len(split.complaints()) == 10  # one for each lost copy
