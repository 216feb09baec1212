"""Explanations are stored with the predictions that they explain."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.history import History, Query, Result, is_explanation_of
from gateway.history.images import ImageStore
from gateway.history.recorder import HistoryRecorder
from gateway.settings import Settings
from gateway.uploads.request_body import RequestBody
from tests.gateway.history.conftest import Store
from tests.gateway.history.failing import Failing
from tests.gateway.history.results import DETAILS, all_of, result
from tests.gateway.history.test_images import ONE, of

IMAGE = "c" * 64


def predicted(seconds: float, **changes: Any) -> Result:
    return result(seconds, **{"image_sha256": IMAGE} | changes)


def explained(seconds: float = 0, **changes: Any) -> Result:
    return predicted(seconds, verb="explanations", **changes)


@pytest.mark.parametrize(
    "changes",
    [
        *({"client": "ward-8"}, {"model": "brain"}, {"version": "2.0.0"}, {"sha256": "b" * 64}, {"repair": "invert"}),
        *({"image_sha256": "d" * 64}, {"label": "pneumonia"}, {"prevalence": 0.1}, {"profile": "st-marys"}),
        *({"probability": 0.76}, {"positive": True}, {"domain": "unusual"}, {"certainty": "uncertain"}),
    ],
)
def test_an_explanation_belongs_to_an_earlier_equal_prediction_only(changes: dict[str, Any]) -> None:
    assert is_explanation_of(explained(), predicted(1))
    assert is_explanation_of(explained(probability=0.75 + 1e-9), predicted(1))
    assert not is_explanation_of(explained(**changes), predicted(1))
    assert not is_explanation_of(explained(2), predicted(1))


def test_explanations_join_the_newest_prediction_without_a_heat_map(store: Store) -> None:
    predictions = [predicted(30), predicted(20), predicted(10, client="ward-8")]
    explanations = [explained(), explained(), explained(), explained(version="2.0.0")]

    async def work(history: History) -> None:
        recorder = HistoryRecorder(history, Settings.read())
        await history.add(predictions)
        joined = []
        for item in explanations:
            state, ids = await recorder.record_explanations([item], RequestBody(b""), {item.id: DETAILS})
            assert state == "kept"
            joined.append(ids.get(item.id))
        first, second, others = (item.id for item in predictions)
        assert joined == [second, first, second, None]
        stored = {item.id: item.explained for item in await all_of(history, Query())}
        assert stored == {first: True, second: True, others: False, explanations[3].id: True}
        assert [await history.details(key) for key in (first, second, others)] == [DETAILS, DETAILS, None]
        assert await history.details(explanations[3].id) == DETAILS

    store.run(work)


def test_unavailable_history_is_tried_once_for_an_explanation() -> None:
    history = Failing("down")

    async def work() -> None:
        recorder = HistoryRecorder(history, Settings.read())
        assert await recorder.record_explanations([explained()], RequestBody(b""), {}) == ("unavailable", {})
        assert history.attempts == 1

    asyncio.run(work())


def test_old_explanations_are_joined_where_that_is_certain(store: Store, tmp_path: Path) -> None:
    prediction, explanation = of(ONE, 20), of(ONE, 10, verb="explanations")
    again = of(ONE, 5, verb="explanations")
    ambiguous = [predicted(40), predicted(30), explained(25)]
    alone = explained(8, version="3.0.0")

    async def work(history: History) -> None:
        recorder = HistoryRecorder(history, Settings.read(), ImageStore(tmp_path / "images"))
        assert recorder.images is not None
        for item in (prediction, explanation, again):
            await recorder.record([item], RequestBody(ONE))
        await history.add([*ambiguous, alone])
        for _ in range(2):  # the second start changes nothing
            await recorder._join_explanations(history)
            expected = [alone, prediction.model_copy(update={"explained": True}), *reversed(ambiguous)]
            assert await all_of(history, Query()) == sorted(expected, key=lambda item: item.time, reverse=True)
            has_image = [await recorder.images.has(item.id) for item in (prediction, explanation, again)]
            assert has_image == [True, False, False]

    store.run(work)
