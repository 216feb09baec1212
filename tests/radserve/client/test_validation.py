from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest

from radserve.client import validation
from radserve.client.validation import RequestedImage
from radserve.errors import InvalidResponseError
from radserve.schema.problem import RejectedImage
from tests.radserve.scripted import SHA256, empty, explanation, marked, picture, prediction, segmentation, volume

IMAGE = b"image"
ASKED = RequestedImage("chest", "1.0.0", hashlib.sha256(IMAGE).hexdigest())


def test_a_gateway_gives_an_answer_a_name_and_a_time_which_make_it_no_other_answer() -> None:
    told = prediction(IMAGE) | {
        "id": "0189",
        "time": "2026-01-02T03:04:05.678Z",
        "filename": "a.png",
        "history": "kept",
    }
    answer = validation.result(told, ASKED)
    assert (answer.id, answer.time) == ("0189", datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC))
    assert answer == validation.result(prediction(IMAGE), ASKED)
    with pytest.raises(InvalidResponseError, match="time"):
        validation.result(told | {"time": "soon"}, ASKED)


@pytest.mark.parametrize("document", [None, [], "normal", 1, {}, {"predictions": {}}, {"predictions": None}])
def test_another_document_is_refused(document: object) -> None:
    with pytest.raises(InvalidResponseError):
        validation.result(document, ASKED)
    with pytest.raises(InvalidResponseError):
        validation.result_list(document, [ASKED])


@pytest.mark.parametrize(
    "item",
    [
        {"status": 200, "title": "OK", "detail": "?"},
        {"status": 400, "title": "", "detail": "?"},
        {"status": 400, "title": "Bad"},
        prediction(IMAGE, status=400, title="Bad", detail="Both."),
        None,
    ],
)
def test_what_is_neither_prediction_nor_refusal_spoils_the_list(item: object) -> None:
    with pytest.raises(InvalidResponseError):
        validation.result_list({"predictions": [item]}, [ASKED])


def test_a_refusal_in_a_list_is_no_prediction() -> None:
    problem = {"status": 400, "title": "Bad", "detail": "It is."}
    assert validation.result_list({"predictions": [problem]}, [ASKED]) == [
        RejectedImage(status=400, title="Bad", detail="It is.")
    ]


def test_a_document_of_two_tasks_is_of_none() -> None:
    with pytest.raises(InvalidResponseError, match="both a mask and probabilities"):
        validation.result(prediction(IMAGE, mask=picture(marked())), ASKED)


def test_the_answer_to_a_zip_says_whom_to_ask_instead() -> None:
    with pytest.raises(InvalidResponseError, match="predict_series"):
        validation.result({"predictions": [prediction(IMAGE)]}, ASKED)


def test_two_models_do_not_answer_one_request() -> None:
    other = {"name": "chest", "version": "2.0.0", "sha256": SHA256}
    items = [prediction(IMAGE), prediction(IMAGE, model=other)]
    asked = RequestedImage("chest", None, ASKED.sha256)
    with pytest.raises(InvalidResponseError, match="several models"):
        validation.result_list({"predictions": items}, [asked, asked])


def test_an_explanation_is_the_prediction_and_its_map() -> None:
    said = validation.explanation(explanation(IMAGE), ASKED)
    assert (said.prediction.label, said.heat.label, said.heat.method) == ("normal", "normal", "grad-cam")
    assert said.heat.pixels.tolist() == (marked() // 2).tolist()
    assert said.prediction.raw == explanation(IMAGE)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label": "pneumonia"}, "explanation.label is 'pneumonia', but label is 'normal'"),
        ({"width": 10}, "the PNG is 20 x 10, not 10 x 10"),
        ({"empty": True}, "explanation.empty is True"),
        ({"method": ...}, "method is missing"),
        ({"data": ...}, "data is missing"),
        (picture(marked()[:, :10]), "PNG is 10 x 10, but the image is 20 x 10"),
    ],
)
def test_a_map_that_is_not_the_answers_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidResponseError, match=said):
        validation.explanation(explanation(IMAGE, **changes), ASKED)


def test_an_explanation_without_a_map_is_none() -> None:
    for document in (prediction(IMAGE), prediction(IMAGE, explanation=None)):
        with pytest.raises(InvalidResponseError, match=r"explanation (is missing|has value None)"):
            validation.explanation(document, ASKED)


SLICES = [RequestedImage("glioma", None, hashlib.sha256(image).hexdigest()) for image in (b"one", b"empty")]
ANSWERS = [segmentation(b"one"), empty(b"empty")]


def test_a_series_is_the_masks_and_their_volume() -> None:
    series = validation.series({"predictions": ANSWERS} | volume(ANSWERS), SLICES)
    assert (series.volume.slices, series.volume.positive_slices, series.volume.pixels) == (2, 1, 20)
    assert series.volume.ml == pytest.approx(0.02)
    assert [item.positive for item in series.answers if not isinstance(item, RejectedImage)] == [True, False]


def test_a_series_with_a_refused_slice_has_no_volume_but_the_other_masks() -> None:
    answers = [ANSWERS[0], {"status": 400, "title": "Bad", "detail": "It is."}]
    series = validation.series({"predictions": answers} | volume(answers), SLICES)
    assert series.answers[1] == RejectedImage(status=400, title="Bad", detail="It is.")
    assert (series.volume.ml, series.volume.reason) == (None, "No volume: refused.")
    with pytest.raises(InvalidResponseError, match="1 slices have no mask"):
        validation.series({"predictions": answers} | volume(answers, ml=1.0, reason=...), SLICES)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"slices": 3}, "volume.slices is 3, but 2"),
        ({"positive_slices": 2}, "20 pixels on 2 slices, but the masks mark 20 on 1"),
        ({"pixels": 21}, "21 pixels on 1 slices, but the masks mark 20 on 1"),
        ({"ml": -1.0}, "volume.ml has value -1"),
        ({"ml": ...}, "volume.ml is None while volume.reason is None"),
        ({"reason": "None at all."}, "volume.ml is 0.02 while"),
    ],
)
def test_a_volume_that_is_not_that_of_the_masks_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidResponseError, match=said):
        validation.series({"predictions": ANSWERS} | volume(ANSWERS, **changes), SLICES)


def test_a_classifier_measures_no_volume() -> None:
    with pytest.raises(InvalidResponseError, match="volume is missing"):
        validation.series({"predictions": [prediction(IMAGE)]}, [ASKED])
