"""Behaviour of the client when a server is busy, disconnects, or is missing."""

import threading

import pytest

from radserve.client import Client
from radserve.errors import (
    InvalidResponseError,
    RejectedRequestError,
    ResponseTimeoutError,
    ServerFailedError,
    UnreachableError,
)
from tests.radserve.scripted import Reply, Request, Scripted, document, problem
from tests.server import free_ports

FULL = document({"code": 503, "type": "ServiceUnavailableException", "message": "no worker to serve"}, 503)


def test_two_503_responses_are_repeated(client: Client, odd: Scripted, pauses: list[float]) -> None:
    odd.say(FULL, FULL)
    assert client.predict("chest", b"image").label == "normal"
    assert pauses == [0.25, 0.5]


def test_the_last_error_has_advice(client: Client, odd: Scripted, pauses: list[float]) -> None:
    odd.say(*[FULL] * 9)
    with pytest.raises(ServerFailedError, match=r"503 .*Wait and try again.*no worker to serve"):
        client.predict("chest", b"image")
    assert (len(odd.requests), len(pauses)) == (4, 3)


@pytest.mark.parametrize("status", [429, 502, 503])
def test_retry_after_is_honoured(client: Client, odd: Scripted, pauses: list[float], status: int) -> None:
    odd.say(Reply(status, headers={"Retry-After": "7"}))
    client.predict("chest", b"image")
    assert pauses == [7]


def test_a_long_retry_after_is_an_immediate_error(client: Client, odd: Scripted, pauses: list[float]) -> None:
    odd.say(Reply(429, headers={"Retry-After": "3600"}))
    with pytest.raises(RejectedRequestError, match=r"429 Too Many Requests: Too many requests\. Wait"):
        client.predict("chest", b"image")
    assert not pauses


@pytest.mark.parametrize("status", [500, 504, 507])
def test_permanent_failures_are_not_repeated(client: Client, odd: Scripted, status: int) -> None:
    odd.say(Reply(status, media_type=None))
    with pytest.raises(ServerFailedError) as raised:
        client.predict("chest", b"image")
    assert (raised.value.status, len(odd.requests)) == (status, 1)


def test_a_rejected_image_has_the_servers_reason_and_is_not_repeated(client: Client, odd: Scripted) -> None:
    odd.say(problem(422, "Unusable image", "Several frames; send one."))
    with pytest.raises(RejectedRequestError, match="422 Unusable image: Several frames; send one") as raised:
        client.predict("chest", b"image")
    assert (raised.value.status, raised.value.title) == (422, "Unusable image")
    assert len(odd.requests) == 1


def test_an_empty_413_gets_advice(client: Client, odd: Scripted) -> None:
    odd.say(Reply(413, media_type=None))
    with pytest.raises(RejectedRequestError, match=r"max_request_size.*Send a smaller"):
        client.predict("chest", b"image")


def test_a_404_of_torchserve_gets_advice_and_its_message(client: Client, odd: Scripted) -> None:
    odd.say(document({"code": 404, "type": "ModelNotFoundException", "message": "Model not found: chest"}, 404))
    with pytest.raises(RejectedRequestError, match=r"radserve build NAME.*Model not found: chest"):
        client.predict("chest", b"image")


@pytest.mark.parametrize("body", [b"<html>Gateway</html>", b"[" * 100_000, b'{"title": 1}', b'"text"'])
def test_an_error_with_an_unknown_body_keeps_its_status(client: Client, odd: Scripted, body: bytes) -> None:
    odd.say(Reply(500, body))
    with pytest.raises(ServerFailedError, match="500 Internal Server Error: Internal error"):
        client.predict("chest", b"image")


def test_a_refused_connection_is_repeated_before_it_is_an_error(pauses: list[float]) -> None:
    with (
        Client(f"http://127.0.0.1:{free_ports(1)[0]}") as client,
        pytest.raises(UnreachableError, match="scripts/serve"),
    ):
        client.predict("chest", b"image")
    assert pauses == [0.25, 0.5, 1.0]


def test_a_read_timeout_is_not_repeated(odd: Scripted) -> None:
    enough = threading.Event()

    def sleep(_: Request) -> Reply:
        enough.wait(10)
        return Reply(500)

    odd.script = sleep
    try:
        with Client(odd.url, timeout=0.1) as client, pytest.raises(ResponseTimeoutError, match="may still be working"):
            client.predict("chest", b"image")
        assert len(odd.requests) == 1
    finally:
        enough.set()


def test_a_truncated_response_is_repeated(client: Client, odd: Scripted) -> None:
    odd.say(Reply(body=b'{"model": {"na', announced=400))
    assert client.predict("chest", b"image").label == "normal"
    assert len(odd.requests) == 2


def test_a_response_that_is_always_truncated_is_invalid(client: Client, odd: Scripted) -> None:
    odd.script = lambda _: Reply(body=b'{"label": "normal"', announced=400)
    with pytest.raises(InvalidResponseError, match="closed during the response"):
        client.predict("chest", b"image")
