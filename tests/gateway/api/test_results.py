"""/api/results: visibility, pages, filters, CSV, images."""

import asyncio
import base64
import csv
import io
import json
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.access import Caller
from gateway.app import assemble
from gateway.backends.base import ModelRequest, ModelResponse
from gateway.errors import HistoryError
from gateway.history import History, Result, compression
from gateway.history.images import ImageStore
from gateway.history.recorder import HistoryRecorder
from gateway.history.sqlite import SqliteHistory
from gateway.services import Services
from gateway.settings import Settings
from radserve.auth.api_keys import Role
from tests.gateway.application import running_client, services
from tests.gateway.fake_backend import FakeBackend, json_response, prediction, respond
from tests.gateway.history.failing import Failing
from tests.gateway.history.results import result

REFUSED = {"status": 400, "title": "Unreadable image", "detail": "It is bad."}


class HeaderAuthenticator:
    """Trusts the header `X-Test: NAME ROLE ROLE`."""

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        name, *roles = headers.get("x-test", "ward-7 predict").split()
        return Caller(name, frozenset(map(Role, roles)))


def be(name: str, *roles: str) -> dict[str, str]:
    return {"X-Test": " ".join((name, *roles))}


OPERATOR, READER = be("operator", "manage"), be("reader", "read")


POSITIVE = prediction(
    b"two", label="pneumonia", positive=True, probability=0.75, probabilities={"normal": 0.25, "pneumonia": 0.75}
)


def script(request: ModelRequest) -> ModelResponse:
    """Return a prediction for each image, and a problem for a bad one."""
    if request.media_type != "application/json":
        return respond(request)
    return json_response({"predictions": [prediction(b"one"), REFUSED, POSITIVE]})


def parts(folder: Path, history: History | None = None, **changes: Any) -> Services:
    settings = Settings.read(**changes)
    outcome = services(FakeBackend(script), settings, authenticator=HeaderAuthenticator())
    recorder = HistoryRecorder(
        history or SqliteHistory(folder / "history.sqlite3"), settings, ImageStore(folder / "images")
    )
    return replace(outcome, recorder=recorder)


def run(parts: Services, work: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    async def use() -> None:
        async with running_client(parts) as client:
            await work(client)

    asyncio.run(use())


async def kept(parts: Services, *results: Result) -> None:
    assert parts.recorder.history is not None
    await parts.recorder.history.add(results)


def dump(path: Path) -> str:
    """Return everything that an SQLite history holds; documents are compressed."""
    with closing(sqlite3.connect(path)) as connection:
        tables = [connection.execute(f"SELECT * FROM {table}").fetchall() for table in ("results", "details")]
    rows = [tuple(value) for table in tables for value in table]
    assert len(rows) == 2 * len(tables[0])
    documents = [compression.unpack(document) for _, document, _ in tables[1]]
    return f"{rows}{documents}"


def test_predictions_are_recorded_and_problems_are_not(tmp_path: Path) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        files = [("file", (f"{image}.png", image.encode())) for image in ("one", "bad", "two")]
        response = (await client.post("/api/predictions/chest", files=files)).json()
        assert response["history"] == "kept"
        first, _, third = response["predictions"]
        page = (await client.get("/api/results")).json()
        assert (page["next"], page["keeps_names"]) == (None, False)
        assert {item["id"]: item["label"] for item in page["results"]} == {
            first["id"]: "normal",
            third["id"]: "pneumonia",
        }
        alone = (await client.get(f"/api/results/{first['id']}")).json()
        assert any(item.items() <= alone.items() for item in page["results"])
        assert (alone["client"], alone["image_sha256"]) == ("ward-7", first["image"]["sha256"])
        assert (alone["time"], alone["filename"]) == (first["time"], None)

    run(parts(tmp_path), work)


def test_images_of_one_request_are_found_together_in_their_order(tmp_path: Path) -> None:
    volume = {"slices": 3, "positive_slices": 1, "pixels": 4, "reason": "No volume: 1 of 3 slices have no mask."}

    def measure(request: ModelRequest) -> ModelResponse:
        document = json.loads(script(request).body)
        return json_response(document | ({"volume": volume} if "predictions" in document else {}))

    async def work(client: httpx.AsyncClient) -> None:
        files = [("file", (f"{image}.png", image.encode())) for image in ("one", "bad", "two")]
        first, _, third = (await client.post("/api/predictions/chest", files=files)).json()["predictions"]
        alone = (await client.put("/api/predictions/chest", content=b"one")).json()
        entries = {item["id"]: item for item in (await client.get("/api/results")).json()["results"]}
        group = entries[first["id"]]["group_id"]
        assert [entries[item["id"]]["group_index"] for item in (first, third, alone)] == [0, 2, None]
        assert [entries[item["id"]]["group_size"] for item in (first, third, alone)] == [3, 3, None]
        found = (await client.get("/api/results", params={"group": group, "limit": 1})).json()
        rest = (await client.get("/api/results", params={"group": group, "cursor": found["next"]})).json()
        whole = (await client.get("/api/results", params={"group": group, "limit": 1, "count": "requests"})).json()
        assert (whole["results"], whole["next"]) == (found["results"] + rest["results"], None)
        assert [item["id"] for item in (*found["results"], *rest["results"])] == [third["id"], first["id"]]
        stored, single = [(await client.get(f"/api/results/{item['id']}")).json() for item in (first, alone)]
        assert (stored["volume"], single["volume"]) == (volume, None)
        assert "volume" not in stored["prediction"]

    used = parts(tmp_path)
    run(replace(used, backend=FakeBackend(measure)), work)


def test_file_names_are_kept_if_configured(tmp_path: Path) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        await client.post("/api/explanations/chest", files={"file": ("Doe.png", b"x")})
        (item,) = (await client.get("/api/results", params={"text": "doe"})).json()["results"]
        assert (item["filename"], item["verb"]) == ("Doe.png", "explanations")

    run(parts(tmp_path, keep_names=True), work)


def test_predict_role_sees_and_deletes_own_results_only(tmp_path: Path) -> None:
    outcome = parts(tmp_path)
    own, others = result(1), result(2, client="ward-8")

    async def work(client: httpx.AsyncClient) -> None:
        await kept(outcome, own, others)
        assert [item["id"] for item in (await client.get("/api/results")).json()["results"]] == [own.id]
        assert others.id not in (await client.get("/api/results.csv")).text
        unknown = await client.get(f"/api/results/{result().id}")
        for method, path in (("GET", ""), ("GET", "/image"), ("GET", "/overlay"), ("DELETE", "")):
            response = await client.request(method, f"/api/results/{others.id}{path}")
            assert (response.status_code, response.json()["title"]) == (404, unknown.json()["title"])
            assert "ward-8" not in response.text
        assert (await client.delete(f"/api/results/{own.id}")).status_code == 204
        assert (await client.delete(f"/api/results/{own.id}")).status_code == 404
        assert (await client.get("/api/results")).json()["results"] == []

    run(outcome, work)


def test_read_role_sees_all_and_manage_role_deletes_all(tmp_path: Path) -> None:
    outcome = parts(tmp_path)
    results = [result(1), result(2, client="reader"), result(3)]

    async def work(client: httpx.AsyncClient) -> None:
        await kept(outcome, *results)
        for caller in (READER, OPERATOR):
            page = (await client.get("/api/results", headers=caller)).json()["results"]
            assert [item["id"] for item in page] == [item.id for item in results]
        assert (await client.delete(f"/api/results/{results[0].id}", headers=READER)).status_code == 403
        assert (await client.delete(f"/api/results/{results[1].id}", headers=READER)).status_code == 204
        assert (await client.delete(f"/api/results/{results[0].id}", headers=OPERATOR)).status_code == 204
        assert (await client.get("/api/results", headers=be("no-role"))).status_code == 403

    run(outcome, work)


def test_api_pages_follow_cursor_and_filters(tmp_path: Path) -> None:
    outcome = parts(tmp_path)
    results = [result(second, label=("normal", "pneumonia")[second % 2]) for second in range(60)]

    async def work(client: httpx.AsyncClient) -> None:
        await kept(outcome, *results)
        first = (await client.get("/api/results")).json()
        assert len(first["results"]) == 25
        second = (await client.get("/api/results", params={"cursor": first["next"]})).json()
        assert second["results"][0]["id"] == results[25].id
        of_label: dict[str, str | int] = {"label": "pneumonia", "limit": 200}
        assert len((await client.get("/api/results", params=of_label)).json()["results"]) == 30
        times = {"since": results[9].time.isoformat(), "until": results[4].time.isoformat().replace("+00:00", "Z")}
        assert len((await client.get("/api/results", params=times)).json()["results"]) == 5

    run(outcome, work)


def test_filters_of_positive_version_and_verb_select_pages_and_the_export(tmp_path: Path) -> None:
    outcome = parts(tmp_path)
    results = [
        result(
            second,
            positive=(True, False, None)[second % 3],
            version=("1.0.0", "2.0.0")[second % 2],
            verb=("predictions", "explanations")[second // 6 % 2],
        )
        for second in range(60)
    ]

    async def work(client: httpx.AsyncClient) -> None:
        await kept(outcome, *results)
        for params, expected in (
            ({"positive": "true"}, [item for item in results if item.positive]),
            ({"positive": "false"}, [item for item in results if item.positive is False]),
            ({"version": "2.0.0"}, [item for item in results if item.version == "2.0.0"]),
            ({"explain": "true"}, [item for item in results if item.verb == "explanations"]),
            (
                {"explain": "false", "version": "1.0.0"},
                results[0:6:2] + results[12:18:2] + results[24:30:2] + results[36:42:2] + results[48:54:2],
            ),
        ):
            read: list[str] = []
            cursor: dict[str, str] = {}
            while True:
                page = (await client.get("/api/results", params=params | cursor | {"limit": "7"})).json()
                read += [item["id"] for item in page["results"]]
                if page["next"] is None:
                    break
                cursor = {"cursor": page["next"]}
            assert read == [item.id for item in expected], params
            rows = csv.DictReader(io.StringIO((await client.get("/api/results.csv", params=params)).text, newline=""))
            assert [row["id"] for row in rows] == read

    run(outcome, work)


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"cursor": "x"}, 400),
        ({"cursor": "A" * 32}, 400),
        ({"limit": "0"}, 422),
        *(({"limit": text}, 422) for text in ("5.0", "5 ", "+5", "1e1", "5_0", "\N{ARABIC-INDIC DIGIT FIVE}", "")),
        ({"limit": "201"}, 422),
        ({"count": "images"}, 422),
        ({"count": "requests", "cursor": "x"}, 400),
        ({"since": "yesterday"}, 422),
        ({"since": "0.5"}, 422),
        ({"since": "2026-01-01T00:00:00"}, 422),
        ({"text": "x" * 129}, 422),
        ({"cursor": "x" * 257}, 422),
        ({"positive": "yes"}, 422),
        ({"positive": "1"}, 422),
        ({"explain": ""}, 422),
        ({"version": "x" * 65}, 422),
        ({"image": "A" * 64}, 422),
        ({"image": "a" * 63}, 422),
        ({"positve": "true"}, 422),
    ],
)
def test_invalid_parameter_returns_422(tmp_path: Path, params: dict[str, str], status: int) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        response = await client.get("/api/results", params=params)
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"
        assert "Value error" not in response.text
        assert (await client.get("/api/results.csv", params=params)).status_code == 422 or "cursor" in params

    run(parts(tmp_path), work)


@pytest.mark.parametrize("identity", ["x", "1", "0" * 36, "..%2f..%2fetc", "00000000-0000-7000-8000-00000000000G"])
def test_unknown_result_id_returns_404_or_422(tmp_path: Path, identity: str) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        for path in ("", "/image", "/overlay"):
            assert (await client.get(f"/api/results/{identity}{path}")).status_code in (404, 422)

    run(parts(tmp_path), work)


def test_csv_has_all_results_and_no_formula(tmp_path: Path) -> None:
    outcome = parts(tmp_path)
    names = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx", 'a "b", c', "Müller.png"]
    results = [result(second, filename=names[second] if second < len(names) else None) for second in range(450)]
    mixed = [*results, *(result(second, model="brain") for second in range(10))]

    async def work(client: httpx.AsyncClient) -> None:
        await kept(outcome, *mixed)
        response = await client.get("/api/results.csv", params={"model": "chest"})
        assert response.headers["content-type"] == "text/csv; charset=utf-8"
        assert "attachment" in response.headers["content-disposition"]
        rows = list(csv.DictReader(io.StringIO(response.content.decode(), newline="")))
        assert [row["id"] for row in rows] == [item.id for item in results]
        expected = [f"'{name}" if name[0] in "=+-@\t\r\n" else name for name in names]
        assert [row["filename"] for row in rows[: len(names)]] == expected
        assert (rows[9]["filename"], rows[0]["probability"], rows[0]["positive"]) == ("", "0.75", "false")

    run(outcome, work)


def test_failing_csv_aborts_connection() -> None:
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


def test_unavailable_history_does_not_fail_predictions() -> None:
    history = Failing("down")

    async def work(client: httpx.AsyncClient) -> None:
        response = await client.post("/api/predictions/chest", content=b"x")
        assert (response.status_code, response.json()["label"]) == (200, "normal")
        assert response.json()["history"] == "unavailable"
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


def test_disabled_history_returns_404() -> None:
    async def work(client: httpx.AsyncClient) -> None:
        assert (await client.post("/api/predictions/chest", content=b"x")).json()["history"] == "off"
        assert (await client.get("/ready")).json()["history"] == "off"
        for path in ("/api/results", "/api/results.csv", f"/api/results/{result().id}"):
            assert (await client.get(path)).status_code == 404

    run(services(FakeBackend()), work)


def test_result_image_round_trips_and_is_deleted_with_result(tmp_path: Path) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        png = b"\x89PNG\r\n\x1a\n film"
        identity = (await client.post("/api/predictions/chest", content=png)).json()["id"]
        path = f"/api/results/{identity}/image"
        for caller in ({}, READER):
            response = await client.get(path, headers=caller)
            assert (response.content, response.headers["content-type"]) == (png, "image/png")
            assert "attachment" in response.headers["content-disposition"]
            assert response.headers["x-content-type-options"] == "nosniff"
        assert (await client.get(path, headers=be("ward-8", "predict"))).status_code == 404
        await client.delete(f"/api/results/{identity}")
        assert (await client.get(path)).status_code == 404
        assert [item for item in (tmp_path / "images").rglob("*") if item.is_file()] == []

    run(parts(tmp_path), work)


def test_a_result_opens_again_with_its_heat_map_which_adds_no_row(tmp_path: Path) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        file = {"file": ("Doe^Jane.png", b"film")}
        predicted = (await client.post("/api/predictions/chest", files=file)).json()
        path = f"/api/results/{predicted['id']}"
        before = (await client.get(path)).json()
        sent = {key: predicted[key] for key in predicted.keys() - {"id", "time", "history", "filename"}}
        assert (before["prediction"], before["overlay"], before["has_image"]) == (sent, None, True)
        assert (await client.get(f"{path}/overlay")).status_code == 404

        explained = (await client.post("/api/explanations/chest", files=file)).json()
        assert (explained["id"], explained["time"]) == (predicted["id"], predicted["time"])
        assert explained["history"] == "kept"
        page = (await client.get("/api/results")).json()["results"]
        assert [(item["id"], item["verb"], item["explained"]) for item in page] == [
            (predicted["id"], "predictions", True)
        ]
        after = (await client.get(path)).json()
        assert (after["overlay"], after["prediction"]["explanation"]["method"]) == ("heat_map", "grad-cam")
        assert "data" not in after["prediction"]["explanation"]
        overlay = await client.get(f"{path}/overlay")
        assert overlay.headers["content-type"] == "image/png"
        assert overlay.content == base64.b64decode(explained["explanation"]["data"])
        assert (await client.get(f"{path}/overlay", headers=be("ward-8", "predict"))).status_code == 404
        assert "doe" not in dump(tmp_path / "history.sqlite3").lower()
        image = {"image": predicted["image"]["sha256"]}
        assert len((await client.get("/api/results", params=image)).json()["results"]) == 1

        assert (await client.delete(path)).status_code == 204
        for gone in (path, f"{path}/overlay", f"{path}/image"):
            assert (await client.get(gone)).status_code == 404

    run(parts(tmp_path), work)


@pytest.mark.parametrize("changes", [{"overlays": False}, {}])
def test_heat_maps_are_stored_unless_that_is_disabled_or_they_are_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr("gateway.model_response._MAX_OVERLAY", 1024 * 1024 if changes else 10)

    async def work(client: httpx.AsyncClient) -> None:
        explained = (await client.post("/api/explanations/chest", content=b"film")).json()
        stored = (await client.get(f"/api/results/{explained['id']}")).json()
        assert (stored["explained"], stored["overlay"], stored["verb"]) == (True, None, "explanations")
        assert stored["prediction"]["explanation"]["label"] == "normal"

    run(parts(tmp_path, **changes), work)


def test_disabled_images_return_404(tmp_path: Path) -> None:
    history = Failing()
    history.results = [result()]

    async def work(client: httpx.AsyncClient) -> None:
        response = await client.get(f"/api/results/{history.results[0].id}/image")
        assert (response.status_code, response.json()["detail"]) == (404, "The image of this result is not stored.")

    run(services(FakeBackend(), history=history), work)
