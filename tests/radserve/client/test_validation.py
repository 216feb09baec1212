import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest

from radserve.client import validation
from radserve.errors import InvalidResponseError
from radserve.schema.problem import RejectedImage
from radserve.schema.requested_image import RequestedImage
from tests.radserve.scripted import SHA256, empty, explanation, marked, picture, prediction, segmentation, volume

IMAGE = b"image"
REQUEST = RequestedImage("chest", "1.0.0", hashlib.sha256(IMAGE).hexdigest())


def test_the_id_and_time_of_a_gateway_do_not_affect_equality() -> None:
    document = prediction(IMAGE) | {
        "id": "0189",
        "time": "2026-01-02T03:04:05.678Z",
        "filename": "a.png",
        "history": "kept",
    }
    result = validation.result(document, REQUEST)
    assert (result.id, result.time) == ("0189", datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC))
    assert result == validation.result(prediction(IMAGE), REQUEST)
    with pytest.raises(InvalidResponseError, match="time"):
        validation.result(document | {"time": "soon"}, REQUEST)


@pytest.mark.parametrize("document", [None, [], "normal", 1, {}, {"predictions": {}}, {"predictions": None}])
def test_another_document_is_invalid(document: object) -> None:
    with pytest.raises(InvalidResponseError):
        validation.result(document, REQUEST)
    with pytest.raises(InvalidResponseError):
        validation.result_list(document, [REQUEST])


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
def test_a_malformed_entry_makes_the_list_invalid(item: object) -> None:
    with pytest.raises(InvalidResponseError):
        validation.result_list({"predictions": [item]}, [REQUEST])


def test_problem_details_in_a_list_are_a_rejected_image() -> None:
    problem = {"status": 400, "title": "Bad", "detail": "It is."}
    assert validation.result_list({"predictions": [problem]}, [REQUEST]) == [
        RejectedImage(status=400, title="Bad", detail="It is.")
    ]


def test_a_document_with_mask_and_probabilities_is_invalid() -> None:
    with pytest.raises(InvalidResponseError, match="both a mask and probabilities"):
        validation.result(prediction(IMAGE, mask=picture(marked())), REQUEST)


def test_the_response_to_a_zip_names_predict_series() -> None:
    with pytest.raises(InvalidResponseError, match="predict_series"):
        validation.result({"predictions": [prediction(IMAGE)]}, REQUEST)


def test_results_of_two_models_are_invalid() -> None:
    other = {"name": "chest", "version": "2.0.0", "sha256": SHA256}
    items = [prediction(IMAGE), prediction(IMAGE, model=other)]
    request = RequestedImage("chest", None, REQUEST.sha256)
    with pytest.raises(InvalidResponseError, match="several models"):
        validation.result_list({"predictions": items}, [request, request])


def test_frames_are_results_of_one_image() -> None:
    items = [prediction(IMAGE), {"status": 422, "title": "Bad", "detail": "It is.", "frame": 2}]
    items[0]["image"]["frame"] = 1
    assert len(validation.result_list({"predictions": items}, [REQUEST])) == 2
    with pytest.raises(InvalidResponseError, match="frame 2 follows no frame"):
        validation.result_list({"predictions": items[1:]}, [REQUEST])
    with pytest.raises(InvalidResponseError, match="2 entries for 2 images"):
        validation.result_list({"predictions": items}, [REQUEST, REQUEST])


def test_an_explanation_has_a_prediction_and_a_heat_map() -> None:
    result = validation.explanation(explanation(IMAGE), REQUEST)
    assert (result.prediction.label, result.heat.label, result.heat.method) == ("normal", "normal", "grad-cam")
    assert result.heat.pixels.tolist() == (marked() // 2).tolist()
    assert result.prediction.raw == explanation(IMAGE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "pneumonia"}, "explanation.label is 'pneumonia', but label is 'normal'"),
        ({"width": 10}, "the PNG is 10 x 10, but the image is 20 x 10"),
        ({"empty": True}, "explanation.empty is True"),
        ({"method": ...}, "method' is missing"),
        ({"data": ...}, "data' is missing"),
        (picture(marked()[:, :10]), "PNG is 10 x 10, but the image is 20 x 10"),
    ],
)
def test_an_inconsistent_heat_map_is_invalid(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidResponseError, match=message):
        validation.explanation(explanation(IMAGE, **changes), REQUEST)


def test_an_explanation_without_a_heat_map_is_invalid() -> None:
    for document in (prediction(IMAGE), prediction(IMAGE, explanation=None)):
        with pytest.raises(InvalidResponseError, match=r"explanation' (is missing|has value None)"):
            validation.explanation(document, REQUEST)


SLICES = [RequestedImage("glioma", None, hashlib.sha256(image).hexdigest()) for image in (b"one", b"empty")]
ANSWERS = [segmentation(b"one"), empty(b"empty")]


def test_a_series_has_masks_and_a_volume() -> None:
    series = validation.series({"predictions": ANSWERS} | volume(ANSWERS), SLICES)
    assert (series.volume.slices, series.volume.positive_slices, series.volume.pixels) == (2, 1, 20)
    assert series.volume.ml == pytest.approx(0.02)
    assert [item.positive for item in series.predictions if not isinstance(item, RejectedImage)] == [True, False]


def test_a_series_counts_the_slices_that_are_not_like_the_training_images() -> None:
    unlike = {"mode": "strict", "status": "unlike", "score": 3.0, "percentile": 100.0, "reason": "other_image"}
    answers = [ANSWERS[0], ANSWERS[1] | {"domain": unlike}]
    series = validation.series({"predictions": answers} | volume(answers, unusual=0, unlike=1), SLICES)
    assert (series.volume.unusual, series.volume.unlike) == (0, 1)


def test_a_series_with_a_rejected_slice_has_no_volume() -> None:
    results = [ANSWERS[0], {"status": 400, "title": "Bad", "detail": "It is."}]
    series = validation.series({"predictions": results} | volume(results), SLICES)
    assert series.predictions[1] == RejectedImage(status=400, title="Bad", detail="It is.")
    assert (series.volume.ml, series.volume.reason) == (None, "No volume: rejected.")
    with pytest.raises(InvalidResponseError, match="1 slices have no mask"):
        validation.series({"predictions": results} | volume(results, ml=1.0, reason=...), SLICES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slices": 3}, "volume.slices is 3, but 2"),
        ({"positive_slices": 2}, "20 pixels on 2 slices, but the masks mark 20 on 1"),
        ({"pixels": 21}, "21 pixels on 1 slices, but the masks mark 20 on 1"),
        ({"unlike": 1}, "volume.unlike is 1, but 0 slices are unlike"),
        ({"unusual": 2}, "volume.unusual is 2, but 0 slices are unusual"),
        ({"ml": -1.0}, "volume.ml' has value -1"),
        ({"ml": ...}, "volume.ml is None while volume.reason is None"),
        ({"reason": "None at all."}, "volume.ml is 0.02 while"),
    ],
)
def test_an_inconsistent_volume_is_invalid(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidResponseError, match=message):
        validation.series({"predictions": ANSWERS} | volume(ANSWERS, **changes), SLICES)


def test_a_series_of_a_classifier_is_invalid() -> None:
    with pytest.raises(InvalidResponseError, match="volume is missing"):
        validation.series({"predictions": [prediction(IMAGE)]}, [REQUEST])
