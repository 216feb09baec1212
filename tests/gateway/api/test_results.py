"""/api/results: who sees and deletes what, pages, filters, CSV, images."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.access import Caller
from gateway.app import assemble
from gateway.backends.base import ModelRequest, ModelResponse
from gateway.errors import HistoryError
from gateway.history import History, Result
from gateway.history.images import ImageStore
from gateway.history.recorder import HistoryRecorder
from gateway.history.sqlite import SqliteHistory
from gateway.services import Services
from gateway.settings import Settings
from radserve.auth.api_keys import Role
from tests.gateway.application import running_client, services
from tests.gateway.fake_backend import FakeBackend, json_response, prediction
from tests.gateway.history.failing import Failing
from tests.gateway.history.results import result

REFUSED = {"status": 400, "title": "Unreadable image", "detail": "It is bad."}


class Named:
    """Takes callers at their word: `X-Test: NAME ROLE ROLE`."""

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        name, *roles = headers.get("x-test", "ward-7 predict").split()
        return Caller(name, frozenset(map(Role, roles)))


def be(name: str, *roles: str) -> dict[str, str]:
    return {"X-Test": " ".join((name, *roles))}


OPERATOR, READER = be("operator", "manage"), be("reader", "read")


def script(question: ModelRequest) -> ModelResponse:
    """Answer each image of a request, and refuse one that is bad."""
    if question.media_type != "application/json":
        return json_response(prediction(question.body))
    return json_response({"predictions": [prediction(b"one"), REFUSED, prediction(b"two", label="pneumonia")]})


def parts(folder: Path, history: History | None = None, **changes: Any) -> Services:
    settings = Settings.read(**changes)
    made = services(FakeBackend(script), settings, authenticator=Named())
    recorder = HistoryRecorder(
        history or SqliteHistory(folder / "history.sqlite3"), settings, ImageStore(folder / "images")
    )
    return replace(made, recorder=recorder)


def run(found: Services, work: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    async def asked() -> None:
        async with running_client(found) as client:
            await work(client)

    asyncio.run(asked())


async def kept(found: Services, *results: Result) -> None:
    assert found.recorder.history is not None
    await found.recorder.history.add(results)


def test_an_answer_is_a_result_and_a_refusal_is_none(tmp_path: Path) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        files = [("file", (name, b"x")) for name in ("a.png", "b.png", "c.png")]
        answer = (await client.post("/api/predictions/chest", files=files)).json()
        assert answer["history"] == "kept"
        first, _, third = answer["predictions"]
        page = (await client.get("/api/results")).json()
        assert page["next"] is None
        assert {item["id"]: item["label"] for item in page["results"]} == {
            first["id"]: "normal",
            third["id"]: "pneumonia",
        }
        alone = (await client.get(f"/api/results/{first['id']}")).json()
        assert alone in page["results"]
        assert (alone["client"], alone["image_sha256"]) == ("ward-7", first["image"]["sha256"])
        assert (alone["time"], alone["filename"]) == (first["time"], None)

    run(parts(tmp_path), work)


def test_names_of_files_are_kept_where_the_operator_says_so(tmp_path: Path) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        await client.post("/api/explanations/chest", files={"file": ("Doe.png", b"x")})
        (item,) = (await client.get("/api/results", params={"text": "doe"})).json()["results"]
        assert (item["filename"], item["verb"]) == ("Doe.png", "explanations")

    run(parts(tmp_path, keep_names=True), work)


def test_a_predicting_key_sees_and_deletes_its_own_and_nothing_else(tmp_path: Path) -> None:
    found = parts(tmp_path)
    own, others = result(1), result(2, client="ward-8")

    async def work(client: httpx.AsyncClient) -> None:
        await kept(found, own, others)
        assert [item["id"] for item in (await client.get("/api/results")).json()["results"]] == [own.id]
        assert others.id not in (await client.get("/api/results.csv")).text
        unknown = await client.get(f"/api/results/{result().id}")
        for method, path in (("GET", ""), ("GET", "/image"), ("DELETE", "")):
            answer = await client.request(method, f"/api/results/{others.id}{path}")
            assert (answer.status_code, answer.json()["title"]) == (404, unknown.json()["title"])
            assert "ward-8" not in answer.text
        assert (await client.delete(f"/api/results/{own.id}")).status_code == 204
        assert (await client.delete(f"/api/results/{own.id}")).status_code == 404
        assert (await client.get("/api/results")).json() == {"results": [], "next": None}

    run(found, work)


def test_a_reading_key_sees_all_and_deletes_only_its_own_a_managing_one_all(tmp_path: Path) -> None:
    found = parts(tmp_path)
    results = [result(1), result(2, client="reader"), result(3)]

    async def work(client: httpx.AsyncClient) -> None:
        await kept(found, *results)
        for caller in (READER, OPERATOR):
            page = (await client.get("/api/results", headers=caller)).json()["results"]
            assert [item["id"] for item in page] == [item.id for item in results]
        assert (await client.delete(f"/api/results/{results[0].id}", headers=READER)).status_code == 403
        assert (await client.delete(f"/api/results/{results[1].id}", headers=READER)).status_code == 204
        assert (await client.delete(f"/api/results/{results[0].id}", headers=OPERATOR)).status_code == 204
        assert (await client.get("/api/results", headers=be("nobody"))).status_code == 403

    run(found, work)


def test_pages_follow_their_cursor_and_filters_leave_what_they_say(tmp_path: Path) -> None:
    found = parts(tmp_path)
    results = [result(second, label=("normal", "pneumonia")[second % 2]) for second in range(60)]

    async def work(client: httpx.AsyncClient) -> None:
        await kept(found, *results)
        first = (await client.get("/api/results")).json()
        assert len(first["results"]) == 25
        second = (await client.get("/api/results", params={"cursor": first["next"]})).json()
        assert second["results"][0]["id"] == results[25].id
        of_label: dict[str, str | int] = {"label": "pneumonia", "limit": 200, "model": "", "text": ""}
        assert len((await client.get("/api/results", params=of_label)).json()["results"]) == 30
        times = {"since": results[9].time.isoformat(), "until": results[4].time.isoformat().replace("+00:00", "Z")}
        assert len((await client.get("/api/results", params=times)).json()["results"]) == 5

    run(found, work)


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"cursor": "x"}, 400),
        ({"cursor": "A" * 32}, 400),
        ({"limit": "0"}, 422),
        ({"limit": "201"}, 422),
        ({"since": "yesterday"}, 422),
        ({"since": "0.5"}, 422),
        ({"since": "2026-01-01T00:00:00"}, 422),
        ({"text": "x" * 129}, 422),
        ({"cursor": "x" * 257}, 422),
    ],
)
def test_a_wrong_parameter_is_refused(tmp_path: Path, params: dict[str, str], status: int) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        answer = await client.get("/api/results", params=params)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"

    run(parts(tmp_path), work)


@pytest.mark.parametrize("identity", ["x", "1", "0" * 36, "..%2f..%2fetc", "00000000-0000-7000-8000-00000000000G"])
def test_what_is_no_id_names_no_result(tmp_path: Path, identity: str) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        for path in ("", "/image"):
            assert (await client.get(f"/api/results/{identity}{path}")).status_code in (404, 422)

    run(parts(tmp_path), work)


def test_csv_has_every_result_of_a_filter_and_no_formula(tmp_path: Path) -> None:
    found = parts(tmp_path)
    names = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx", 'a "b", c', "Müller.png"]
    results = [result(second, filename=names[second] if second < len(names) else None) for second in range(450)]
    mixed = [*results, *(result(second, model="brain") for second in range(10))]

    async def work(client: httpx.AsyncClient) -> None:
        await kept(found, *mixed)
        answer = await client.get("/api/results.csv", params={"model": "chest"})
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert "attachment" in answer.headers["content-disposition"]
        rows = list(csv.DictReader(io.StringIO(answer.content.decode(), newline="")))
        assert [row["id"] for row in rows] == [item.id for item in results]
        expected = [f"'{name}" if name[0] in "=+-@\t\r\n" else name for name in names]
        assert [row["filename"] for row in rows[: len(names)]] == expected
        assert (rows[9]["filename"], rows[0]["probability"], rows[0]["positive"]) == ("", "0.75", "false")

    run(found, work)


def test_csv_that_cannot_be_read_to_its_end_is_broken_off() -> None:
    history = Failing()
    history.results = [result(second) for second in range(5)]
    history.finds_left = 3

    async def work() -> None:
        app = assemble(services(FakeBackend(), history=history))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            await client.get("/api/results.csv")

    with pytest.raises((RuntimeError, HistoryError)):
        asyncio.run(work())


def test_a_history_that_is_down_costs_no_answer_and_is_said_everywhere() -> None:
    history = Failing("down")

    async def work(client: httpx.AsyncClient) -> None:
        answer = await client.post("/api/predictions/chest", content=b"x")
        assert (answer.status_code, answer.json()["label"]) == (200, "normal")
        assert answer.json()["history"] == "unavailable"
        ready = await client.get("/ready")
        assert (ready.status_code, ready.json()["history"]) == (200, "unavailable")
        for path in ("/api/results", "/api/results.csv", f"/api/results/{result().id}"):
            refused = await client.get(path)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            assert "secret" not in refused.text
        assert "secret" not in ready.text
        assert 'radserve_gateway_history_up{store="sqlite"} 0.0' in (await client.get("/metrics")).text
        history.state = "up"
        assert 'radserve_gateway_history_up{store="sqlite"} 1.0' in (await client.get("/metrics")).text
        assert (await client.post("/api/predictions/chest", content=b"x")).json()["history"] == "kept"

    run(services(FakeBackend(), history=history), work)


def test_without_a_history_there_are_no_results() -> None:
    async def work(client: httpx.AsyncClient) -> None:
        assert (await client.post("/api/predictions/chest", content=b"x")).json()["history"] == "off"
        assert (await client.get("/ready")).json()["history"] == "off"
        for path in ("/api/results", "/api/results.csv", f"/api/results/{result().id}"):
            assert (await client.get(path)).status_code == 404

    run(services(FakeBackend()), work)


def test_the_image_of_a_result_comes_back_as_it_was_sent_and_goes_with_it(tmp_path: Path) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        png = b"\x89PNG\r\n\x1a\n film"
        identity = (await client.post("/api/predictions/chest", content=png)).json()["id"]
        path = f"/api/results/{identity}/image"
        for caller in ({}, READER):
            answer = await client.get(path, headers=caller)
            assert (answer.content, answer.headers["content-type"]) == (png, "image/png")
            assert "attachment" in answer.headers["content-disposition"]
            assert answer.headers["x-content-type-options"] == "nosniff"
        assert (await client.get(path, headers=be("ward-8", "predict"))).status_code == 404
        await client.delete(f"/api/results/{identity}")
        assert (await client.get(path)).status_code == 404
        assert [item for item in (tmp_path / "images").rglob("*") if item.is_file()] == []

    run(parts(tmp_path), work)


def test_where_images_are_not_kept_there_is_none(tmp_path: Path) -> None:
    history = Failing()
    history.results = [result()]

    async def work(client: httpx.AsyncClient) -> None:
        answer = await client.get(f"/api/results/{history.results[0].id}/image")
        assert (answer.status_code, answer.json()["detail"]) == (404, "The image of this result is not kept.")

    run(services(FakeBackend(), history=history), work)
