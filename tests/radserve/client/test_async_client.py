"""`AsyncClient`, against a scripted server."""

import asyncio
import inspect
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from radserve.client import AsyncClient, Client
from radserve.errors import InvalidCallError, RejectedRequestError, ServerFailedError, UnreachableError
from radserve.schema.prediction import Prediction
from radserve.schema.problem import RejectedImage
from radserve.schema.segmentation import Segmentation
from tests.radserve.client.test_api_detector import GATEWAY
from tests.radserve.client.test_catalog import CATALOG
from tests.radserve.client.test_history import IDS
from tests.radserve.client.test_history import result as entry
from tests.radserve.scripted import Reply, Scripted, document
from tests.server import free_ports

T = TypeVar("T")
FULL = document({"code": 503, "type": "ServiceUnavailableException", "message": "no worker to serve"}, 503)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def public(kind: type) -> dict[str, inspect.Signature]:
    methods = inspect.getmembers(kind, inspect.isfunction)
    return {name: inspect.signature(method) for name, method in methods if name == "__init__" or name[0] != "_"}


def test_it_has_the_methods_and_parameters_of_the_client() -> None:
    mine, others = public(AsyncClient), public(Client)
    assert mine.keys() == others.keys()
    for name, signature in mine.items():
        assert signature.parameters == others[name].parameters, name


def test_every_prediction_has_the_result_of_the_client(odd: Scripted, tmp_path: Path) -> None:
    (tmp_path / "film.png").write_bytes(b"image")

    async def work() -> None:
        async with AsyncClient(odd.url) as client:
            result = await client.predict("chest", str(tmp_path / "film.png"), "1.0.0", assurances={"age": 5})
            assert (result.label, result.path) == ("normal", tmp_path / "film.png")
            assert (await client.explain("chest", b"image")).heat.label == "normal"
            assert (await client.picture("glioma", b"image")).startswith(b"\x89PNG")
            first, second = await client.predict_many("chest", [b"one", b"bad"])
            assert isinstance(first, Prediction)
            assert isinstance(second, RejectedImage)
            series = await client.predict_series("glioma", [b"one", b"two"])
            assert isinstance(series.predictions[0], Segmentation)

    run(work())
    assert odd.requests[0].path == "/predictions/chest/1.0.0"
    assert odd.requests[0].headers["X-Assurances"] == "age=5"


def test_an_image_above_max_bytes_is_a_rejected_image_among_the_others(odd: Scripted) -> None:
    async def work() -> list[type]:
        async with AsyncClient(odd.url, max_bytes=4) as client:
            return [type(item) for item in await client.predict_many("chest", [b"one", b"12345", b"four"])]

    assert run(work()) == [Prediction, RejectedImage, Prediction]


def test_tasks_share_one_detection(odd: Scripted) -> None:
    odd.live = GATEWAY

    async def work() -> None:
        async with AsyncClient(odd.url) as client:
            await asyncio.gather(*(client.predict("chest", b"image") for _ in range(8)))

    run(work())
    assert (odd.probes, len(odd.requests)) == (1, 8)


def test_the_history_is_paged(odd: Scripted) -> None:
    odd.say(
        document({"results": [entry(IDS[2]), entry(IDS[1])], "next": "c"}),
        document({"results": [entry(IDS[0])], "next": None}),
        document(entry(IDS[0])),
        Reply(204, media_type=None),
    )

    async def work() -> list[str]:
        async with AsyncClient(odd.url, api="gateway") as client:
            found = [item.id async for item in client.history(model="chest")]
            assert (await client.result(IDS[0])).client == "ward-7"
            await client.delete(IDS[0])
            return found

    assert run(work()) == [IDS[2], IDS[1], IDS[0]]


def test_models_and_readiness(odd: Scripted) -> None:
    odd.say(document(CATALOG), document({"state": "ready", "detail": "Yes."}))

    async def work() -> None:
        async with AsyncClient(odd.url) as client:
            assert [model.name for model in await client.models()] == ["chest"]
            assert await client.ready()

    run(work())


def test_a_transient_failure_is_repeated_without_blocking_the_loop(
    odd: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stamina._core.random.uniform", lambda _low, _high: 0.0)
    odd.say(FULL)

    async def work() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        async with AsyncClient(odd.url) as client:
            ticker = asyncio.create_task(tick())
            await client.predict("chest", b"image")
            ticker.cancel()
        return ticks

    assert run(work()) > 5  # during a pause of 250 ms
    assert len(odd.requests) == 2


def test_errors_are_those_of_the_client(odd: Scripted) -> None:
    async def work(client: AsyncClient, *arguments: Any) -> None:
        async with client:
            await client.predict(*arguments)

    with pytest.raises(RejectedRequestError, match="400 Unreadable image"):
        run(work(AsyncClient(odd.url), "chest", b"bad"))
    with pytest.raises(InvalidCallError, match="Cannot read the file 'missing"):
        run(work(AsyncClient(odd.url), "chest", "missing.png"))
    odd.say(Reply(500, media_type=None))
    with pytest.raises(ServerFailedError):
        run(work(AsyncClient(odd.url), "chest", b"image"))
    with pytest.raises(UnreachableError, match="Cannot connect"):
        run(work(AsyncClient(f"http://127.0.0.1:{free_ports(1)[0]}", retries=0), "chest", b"image"))
