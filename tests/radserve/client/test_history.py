"""History of a gateway, as the client returns it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from radserve.client import Client
from radserve.errors import InvalidCallError, InvalidResponseError, RejectedRequestError
from tests.radserve.scripted import SHA256, Reply, Scripted, document, problem

IDS = [f"01890000-0000-7000-8000-00000000000{number}" for number in range(3)]


def result(identity: str, **changes: Any) -> dict[str, Any]:
    right = {
        "id": identity,
        "time": "2026-01-02T03:04:05.678Z",
        "verb": "predictions",
        "model": "chest",
        "version": "1.0.0",
        "sha256": SHA256,
        "image_sha256": SHA256,
        "label": "normal",
        "probability": 0.75,
        "positive": False,
        "client": "ward-7",
        "filename": None,
        "request_id": "x",
    }
    return {key: value for key, value in (right | changes).items() if value is not ...}


@pytest.fixture
def gateway(odd: Scripted) -> Iterator[Client]:
    with Client(odd.url, api="gateway") as opened:
        yield opened


def test_pages_are_requested_on_demand(gateway: Client, odd: Scripted) -> None:
    odd.say(
        document({"results": [result(IDS[2]), result(IDS[1])], "next": "c"}),
        document({"results": [result(IDS[0])], "next": None}),
    )
    since = datetime(2026, 1, 1, tzinfo=UTC)
    results = gateway.history(model="chest", text="film", positive=True, since=since, image=SHA256)
    assert not odd.requests
    assert next(results).time == datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    assert len(odd.requests) == 1
    assert [item.id for item in results] == [IDS[1], IDS[0]]
    queries = [parse_qs(urlsplit(request.path).query) for request in odd.requests]
    filters = {"model": ["chest"], "text": ["film"], "positive": ["true"], "since": ["2026-01-01T00:00:00+00:00"]}
    wanted = filters | {"limit": ["200"], "image": [SHA256]}
    assert queries == [wanted, wanted | {"cursor": ["c"]}]


def test_one_result_is_read_and_deleted(gateway: Client, odd: Scripted) -> None:
    opened = {"prediction": {"label": "normal"}, "overlay": "heat_map", "has_image": True, "explained": True}
    odd.say(document(result(IDS[0], **opened)), Reply(204, media_type=None))
    stored = gateway.result(IDS[0])
    assert (stored.client, stored.prediction, stored.overlay) == ("ward-7", {"label": "normal"}, "heat_map")
    assert stored.has_image
    assert stored.explained
    gateway.delete(IDS[0])
    requests = [(request.method, request.path) for request in odd.requests]
    assert requests == [("GET", f"/api/results/{IDS[0]}"), ("DELETE", f"/api/results/{IDS[0]}")]


def test_a_gateway_of_an_older_release_returns_no_document(gateway: Client, odd: Scripted) -> None:
    odd.say(document(result(IDS[0], verb="explanations")))
    stored = gateway.result(IDS[0])
    assert (stored.prediction, stored.overlay, stored.has_image, stored.explained) == (None, None, False, True)


def test_a_rejected_request_has_the_gateways_reason(gateway: Client, odd: Scripted) -> None:
    odd.say(*[problem(404, "Not found", "No result has this id.")] * 2)
    with pytest.raises(RejectedRequestError, match="No result has this id"):
        gateway.result(IDS[0])
    with pytest.raises(RejectedRequestError, match="No result has this id"):
        gateway.delete(IDS[0])


@pytest.mark.parametrize("wrong", [{"label": ...}, {"probability": 2.0}, {"sha256": "x"}, {"time": "soon"}])
def test_a_malformed_entry_is_invalid(gateway: Client, odd: Scripted, wrong: dict[str, Any]) -> None:
    odd.say(document({"results": [result(IDS[0], **wrong)], "next": None}))
    with pytest.raises(InvalidResponseError, match=next(iter(wrong))):
        list(gateway.history())


@pytest.mark.parametrize("identity", ["", "../x", "a b", "?", "ä"])
def test_an_id_that_would_change_the_path_is_not_sent(gateway: Client, odd: Scripted, identity: str) -> None:
    with pytest.raises(InvalidCallError, match="id has value"):
        gateway.result(identity)
    with pytest.raises(InvalidCallError, match="id has value"):
        gateway.delete(identity)
    assert not odd.requests


def test_an_unknown_filter_is_a_type_error(gateway: Client) -> None:
    with pytest.raises(TypeError, match="'name'; the filters are model, version, label, positive, explain, since"):
        gateway.history(name="chest")  # type: ignore[call-arg]


def test_a_time_without_a_zone_is_an_invalid_call(gateway: Client) -> None:
    with pytest.raises(InvalidCallError, match=r"until has value .* has no time zone"):
        list(gateway.history(until=datetime(2026, 1, 1)))  # noqa: DTZ001 - that is what is refused
