"""Explanations are stored with the predictions that they explain."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.history import Details, History, Query, Result
from gateway.history.explanations import is_explanation_of
from gateway.history.images import ImageStore
from gateway.history.recorder import HistoryRecorder
from gateway.history.redis import RedisHistory
from gateway.settings import Settings
from gateway.uploads.request_body import RequestBody
from tests.gateway.history.conftest import Store
from tests.gateway.history.results import all_of, result
from tests.gateway.history.test_images import ONE, of

IMAGE = "c" * 64
PREDICTION = Details({"label": "normal", "probabilities": {"normal": 0.75}})
EXPLANATION = Details({"label": "normal", "probabilities": {"normal": 0.75}, "explanation": {"method": "cam"}}, b"heat")


def predicted(seconds: float, **changes: Any) -> Result:
    return result(seconds, **{"image_sha256": IMAGE} | changes)


def explained(seconds: float = 0, **changes: Any) -> Result:
    return predicted(seconds, verb="explanations", **changes)


async def add_predictions(history: History, *predictions: Result) -> None:
    await history.add(predictions, {item.id: PREDICTION for item in predictions})


async def explain(history: History, *items: Result, details: Details = EXPLANATION) -> list[str | None]:
    """Add explanations; return the ids of their predictions."""
    predictions: Mapping[str, Result] = await history.add_explanations(items, {item.id: details for item in items})
    return [predictions[item.id].id if item.id in predictions else None for item in items]


@pytest.mark.parametrize(
    "changes",
    [
        *({"client": "ward-8"}, {"model": "brain"}, {"version": "2.0.0"}, {"sha256": "b" * 64}, {"repair": "invert"}),
        *({"image_sha256": "d" * 64}, {"label": "pneumonia"}, {"prevalence": 0.1}, {"profile": "st-marys"}),
        *({"probability": 0.76}, {"positive": True}, {"domain": "unusual"}, {"certainty": "uncertain"}),
    ],
)
def test_an_explanation_belongs_to_an_equal_prediction_of_the_hour_before(changes: dict[str, Any]) -> None:
    assert is_explanation_of(explained(), predicted(1))
    assert is_explanation_of(explained(probability=0.75 + 1e-9), predicted(3600))
    assert is_explanation_of(explained(), predicted(1, group_id="g", group_index=0, group_size=2))
    assert not is_explanation_of(explained(**changes), predicted(1))
    assert not is_explanation_of(explained(2), predicted(1))
    assert not is_explanation_of(explained(), predicted(3601))
    assert not is_explanation_of(explained(), explained(1))


def test_explanations_go_to_the_latest_prediction_without_a_heat_map(store: Store) -> None:
    old, first, second, others = predicted(3601), predicted(30), predicted(20), predicted(10, client="ward-8")
    other_version = explained(version="2.0.0")

    async def work(history: History) -> None:
        await add_predictions(history, old, first, second, others)
        # The images of one request may be equal.
        assert await explain(history, explained(), explained(), other_version) == [second.id, first.id, None]
        assert await explain(history, explained()) == [second.id]
        stored = {item.id: item.explained for item in await all_of(history, Query())}
        marks = {first.id: True, second.id: True, others.id: False, old.id: False}
        assert stored == marks | {other_version.id: True}
        assert [await history.details(item.id) for item in (old, others)] == [PREDICTION, PREDICTION]
        for item in (first, second, other_version):
            assert await history.details(item.id) == EXPLANATION

    store.run(work)


def test_an_explanation_with_other_assurances_is_a_result_and_changes_no_prediction(store: Store) -> None:
    prediction, explanation = predicted(10), explained()
    of_child = Details({**EXPLANATION.prediction, "assurances": {"age": 4}}, b"heat")

    async def work(history: History) -> None:
        await add_predictions(history, prediction)
        assert await explain(history, explanation, details=of_child) == [None]
        assert await history.details(prediction.id) == PREDICTION
        assert await history.get(prediction.id) == prediction
        assert await history.details(explanation.id) == of_child

    store.run(work)


def test_explanations_are_a_group_only_if_all_of_them_are_results(store: Store) -> None:
    first, second = (explained(group_id="g", group_index=index, group_size=2) for index in range(2))
    other = explained(group_id="h", group_index=1, group_size=2, image_sha256="b" * 64)

    async def work(history: History) -> None:
        assert await explain(history, first, second) == [None, None]
        await add_predictions(history, prediction := predicted(10))
        assert await explain(history, explained(group_id="h", group_index=0, group_size=2), other) == [
            prediction.id,
            None,
        ]
        groups = {item.id: (item.group_id, item.group_index) for item in await all_of(history, Query())}
        assert groups == {first.id: ("g", 0), second.id: ("g", 1), prediction.id: (None, None), other.id: (None, None)}

    store.run(work)


def test_an_explanation_adds_to_the_document_of_its_prediction_and_erases_no_heat_map(store: Store) -> None:
    prediction = predicted(10)
    rounded = Details({**EXPLANATION.prediction, "probabilities": {"normal": 0.7500001}})

    async def work(history: History) -> None:
        await add_predictions(history, prediction)
        for details, overlay in ((rounded, None), (EXPLANATION, b"heat"), (rounded, b"heat")):
            assert await explain(history, explained(), details=details) == [prediction.id]
            assert await history.details(prediction.id) == replace(EXPLANATION, overlay=overlay)
        assert await all_of(history, Query()) == [prediction.model_copy(update={"explained": True})]

    store.run(work)


def test_explanations_of_many_images_are_stored_within_the_timeout(store: Store) -> None:
    predictions = [predicted(second / 100 + 1) for second in range(3000)]
    explanations = [explained() for _ in range(160)]

    async def work(history: History) -> None:
        await add_predictions(history, *predictions)
        recorder = HistoryRecorder(history, Settings.read())
        details = {item.id: EXPLANATION for item in explanations}
        state, stored = await recorder.record_explanations(explanations, RequestBody(b""), details)
        assert (state, len(stored)) == ("kept", 160)

    store.run(work)


def test_concurrent_explanations_of_equal_images_go_to_different_predictions(store: Store) -> None:
    predictions = [predicted(second + 1) for second in range(8)]

    async def work(history: History) -> None:
        await add_predictions(history, *predictions)
        ids = await asyncio.gather(*(explain(history, explained()) for _ in predictions))
        assert sorted(ids) == sorted([item.id] for item in predictions)

    store.run(work)


def test_a_prediction_that_is_deleted_meanwhile_leaves_nothing(
    redis_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    prediction = predicted(10)
    original = RedisHistory._recent_predictions

    async def then_delete(self: RedisHistory, *arguments: Any) -> Any:
        predictions = await original(self, *arguments)
        await self.delete(prediction.id)
        return predictions

    monkeypatch.setattr(RedisHistory, "_recent_predictions", then_delete)

    async def work(history: History) -> None:
        await add_predictions(history, prediction)
        assert await explain(history, explained()) == [None]
        assert await history.get(prediction.id) is None
        assert await history.details(prediction.id) is None

    redis_store.run(work)


def test_a_prediction_without_an_image_gets_that_of_its_explanation(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prediction = of(ONE, 10)

    async def work(history: History) -> None:
        images = ImageStore(tmp_path / "images")
        recorder = HistoryRecorder(history, Settings.read(), images)
        await add_predictions(history, prediction)
        for _ in range(2):
            explanation = of(ONE, verb="explanations")
            details = {explanation.id: EXPLANATION}
            state, stored = await recorder.record_explanations([explanation], RequestBody(ONE), details)
            assert (state, stored[explanation.id].id) == ("kept", prediction.id)
            assert await images.read(prediction.id) == ONE
            assert "images not recorded" not in caplog.text
        await recorder.delete(prediction.id)
        assert not [path for path in (tmp_path / "images").rglob("*") if path.is_file()]

    store.run(work)


def test_the_image_of_a_prediction_that_is_deleted_meanwhile_is_not_stored(
    sqlite_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prediction, explanation = of(ONE, 10), of(ONE, verb="explanations")

    async def work(history: History) -> None:
        recorder = HistoryRecorder(history, Settings.read(), ImageStore(tmp_path / "images"))
        await add_predictions(history, prediction)
        original = recorder._add_images

        async def delete_before(*arguments: Any) -> None:
            await recorder.delete(prediction.id)
            await original(*arguments)

        monkeypatch.setattr(recorder, "_add_images", delete_before)
        details = {explanation.id: EXPLANATION}
        await recorder.record_explanations([explanation], RequestBody(ONE), details)
        assert not [path for path in (tmp_path / "images").rglob("*") if path.is_file()]

    sqlite_store.run(work)


def test_an_image_that_is_added_during_a_deletion_is_deleted(
    sqlite_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prediction = of(ONE)

    async def work(history: History) -> None:
        images = ImageStore(tmp_path / "images")
        recorder = HistoryRecorder(history, Settings.read(), images)
        await add_predictions(history, prediction)
        original = history.delete

        async def add_before(result_id: str) -> bool:
            await images.add([prediction], RequestBody(ONE))
            return await original(result_id)

        monkeypatch.setattr(history, "delete", add_before)
        await recorder.delete(prediction.id)
        assert not [path for path in (tmp_path / "images").rglob("*") if path.is_file()]

    sqlite_store.run(work)
