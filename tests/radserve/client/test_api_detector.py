"""Detection of servers and gateways by their /live."""

import threading

import pytest

from radserve.client import Client
from radserve.client.api_detector import Api
from radserve.errors import (
    InvalidCallError,
    InvalidResponseError,
    RejectedRequestError,
    ServerFailedError,
    UnreachableError,
)
from tests.radserve.scripted import Reply, Scripted, document, problem
from tests.server import free_ports

GATEWAY = document({"state": "live", "detail": "The gateway runs.", "service": "radserve-gateway"})
SUPERVISOR = document({"state": "ready", "detail": "Yes."})


@pytest.mark.parametrize(
    ("live", "path"),
    [(GATEWAY, "/api/predictions/chest"), (SUPERVISOR, "/predictions/chest"), (Reply(404), "/predictions/chest")],
)
def test_live_determines_the_paths(client: Client, odd: Scripted, live: Reply, path: str) -> None:
    odd.live = live
    client.predict("chest", b"image")
    client.predict_many("chest", [b"image"])
    assert [request.path for request in odd.requests] == [path, path]
    assert odd.probes == 1


def test_every_call_uses_the_paths_of_the_gateway(client: Client, odd: Scripted) -> None:
    odd.live = GATEWAY
    client.explain("chest", b"image", "1.0.0")
    client.picture("glioma", b"image")
    client.predict_series("glioma", [b"image"])
    assert [request.path for request in odd.requests] == [
        "/api/explanations/chest/1.0.0",
        "/api/predictions/glioma",
        "/api/predictions/glioma",
    ]


@pytest.mark.parametrize(("api", "path"), [("server", "/predictions/chest"), ("gateway", "/api/predictions/chest")])
def test_an_explicit_api_is_not_detected(odd: Scripted, api: Api, path: str) -> None:
    with Client(odd.url, api=api) as client:
        client.predict("chest", b"image")
    assert (odd.probes, odd.requests[0].path) == (0, path)


@pytest.mark.parametrize(
    ("live", "error"),
    [
        (Reply(500, media_type=None), ServerFailedError),
        (problem(503, "Service unavailable", "Later."), ServerFailedError),
        (problem(401, "Not authenticated", "Send a key."), RejectedRequestError),
        (Reply(302, headers={"Location": "https://example.org/"}), InvalidResponseError),
        (document({"status": "Healthy"}), InvalidResponseError),
        (Reply(200, b"<html>", "text/html"), InvalidResponseError),
        (Reply(405), InvalidResponseError),
    ],
)
def test_no_image_is_sent_if_the_api_is_unknown(
    client: Client, odd: Scripted, live: Reply, error: type[Exception]
) -> None:
    odd.live = live
    with pytest.raises(error):
        client.predict("chest", b"image")
    assert not odd.requests
    odd.live = GATEWAY  # and the next call detects it
    assert client.predict("chest", b"image").label == "normal"


def test_an_unreachable_server_is_an_unreachable_error(pauses: list[float]) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    with Client(url) as client, pytest.raises(UnreachableError, match="scripts/serve"):
        client.predict("chest", b"image")
    assert len(pauses) == 3


def test_threads_share_one_detection(client: Client, odd: Scripted) -> None:
    odd.live = GATEWAY
    threads = [threading.Thread(target=client.predict, args=("chest", b"image")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (odd.probes, len(odd.requests)) == (1, 8)


def test_a_server_has_no_history(client: Client) -> None:
    calls = (lambda: list(client.history()), lambda: client.result("0"), lambda: client.delete("0"))
    for call in (*calls, lambda: client.upload(b"image")):
        with pytest.raises(InvalidCallError, match="is not a gateway"):
            call()
