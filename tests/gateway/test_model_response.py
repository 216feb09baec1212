"""Interpretation of the model server's responses."""

import base64
import json
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway import model_response
from gateway.backends.base import ModelRequest, ModelResponse
from gateway.errors import BadGatewayError, NotFoundError, ProblemError, TooManyRequestsError, UnavailableError
from gateway.uploads.request_body import RequestBody
from radserve.schema.response import ResultList
from tests.gateway.fake_backend import json_response, prediction
from tests.gateway.history.results import result

NOW = datetime(2026, 3, 1, 12, 30, 15, 250_000, UTC)
REFUSED = {"status": 400, "title": "Unreadable image", "detail": "It is bad."}


def test_prediction_gets_id_time_and_filename() -> None:
    document = model_response.annotate(prediction(b"x"), ["film.png"], NOW)
    assert (document["time"], document["filename"]) == ("2026-03-01T12:30:15.250Z", "film.png")
    assert len(document["id"]) == 36
    assert prediction(b"x").items() <= document.items()


def test_each_prediction_gets_own_id_and_problem_gets_none() -> None:
    document = model_response.annotate(
        {"predictions": [prediction(b"x"), REFUSED, prediction(b"y")], "volume": {"slices": 3}}, ["a", "b", "c"], NOW
    )
    first, refused, third = document["predictions"]
    assert first["id"] < third["id"]  # sorts as sent
    assert refused == REFUSED | {"filename": "b"}
    assert third["filename"] == "c"
    assert document["volume"] == {"slices": 3}


def test_mismatched_names_are_ignored() -> None:
    document = model_response.annotate({"predictions": [prediction(b"x"), prediction(b"y")]}, ["series.zip"], NOW)
    assert [item.get("filename") for item in document["predictions"]] == [None, None]


def framed(number: int, image: bytes = b"x") -> dict[str, Any]:
    document = prediction(image)
    return document | {"image": document["image"] | {"frame": number}}


def test_frames_share_the_name_of_their_file() -> None:
    items = [framed(1), REFUSED | {"frame": 2}, framed(3), prediction(b"y")]
    document = model_response.annotate({"predictions": items}, ["a", "b"], NOW)
    assert [item["filename"] for item in document["predictions"]] == ["a", "a", "a", "b"]


@pytest.mark.parametrize(
    ("items", "is_valid"),
    [
        ([framed(1), REFUSED | {"frame": 2}, framed(3), prediction(b"y")], True),
        ([framed(1), framed(2)], False),
        ([framed(1), framed(3), prediction(b"y")], False),
        ([framed(2), prediction(b"y")], False),
        ([framed(1), framed(2, b"y"), prediction(b"y")], False),
        ([framed(1), prediction(b"y"), framed(2)], False),
        ([prediction(b"x"), framed(2), prediction(b"y")], False),
    ],
)
def test_results_of_frames_are_about_the_sent_images_in_order(items: list[dict[str, Any]], is_valid: bool) -> None:
    instances = [{"b64": base64.b64encode(image).decode()} for image in (b"x", b"y")]
    body = RequestBody(json.dumps({"instances": instances}).encode(), "application/json")
    request = ModelRequest("predictions", "chest", None, body.content, body.media_type)
    results = ResultList.model_validate({"predictions": items}).predictions
    with nullcontext() if is_valid else pytest.raises(BadGatewayError):
        model_response.require_images(results, request, body)


def test_file_in_zip_keeps_name_from_server() -> None:
    document = model_response.annotate({"predictions": [prediction(b"x", name="slice_2.png")]}, ["a.zip"][:0], NOW)
    assert document["predictions"][0]["filename"] == "slice_2.png"


def test_details_hold_no_names_and_no_pictures() -> None:
    picture = {"encoding": "png", "width": 20, "height": 10, "data": "iVBORw=="}
    explained = prediction(b"y", name="Doe.png", explanation=picture | {"method": "cam"})
    document = model_response.annotate({"predictions": [explained, REFUSED]}, ["Doe.png", "b"], NOW)
    identity = document["predictions"][0]["id"]
    ((key, details),) = model_response.history_details(document, with_overlays=True).items()
    assert (key, details.overlay) == (identity, b"\x89PNG")
    heat_map = {"encoding": "png", "width": 20, "height": 10, "method": "cam"}
    assert details.prediction == prediction(b"y", explanation=heat_map)
    (without,) = model_response.history_details(document, with_overlays=False).values()
    assert without.overlay is None


def test_explanations_get_the_ids_and_times_of_their_predictions() -> None:
    one, two = prediction(b"x", id="1"), prediction(b"y", id="2")
    stored = result(10)
    identity = {"id": stored.id, "time": stored.model_dump(mode="json")["time"]}
    assert model_response.identify(one, {"1": stored}) == one | identity
    several = {"predictions": [one, REFUSED, two], "volume": {}}
    assert model_response.identify(several, {"2": stored}) == {
        "predictions": [one, REFUSED, two | identity],
        "volume": {},
    }


def test_history_entries_hold_predictions_only() -> None:
    document = model_response.annotate({"predictions": [prediction(b"x"), REFUSED]}, ["a", "b"], NOW)
    (result,) = model_response.history_entries(document, "predictions", "ward-7", "r1", keep_names=False)
    assert (result.label, result.probability, result.positive) == ("normal", 0.75, False)
    assert (result.client, result.request_id, result.filename) == ("ward-7", "r1", None)
    assert (result.id, result.time) == (document["predictions"][0]["id"], NOW)
    assert model_response.history_entries(document, "predictions", "w", "", keep_names=True)[0].filename == "a"


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[1]", b'"x"', b"{", b"{}", b'{"predictions": [1]}', b'{"predictions": [{"label": "x"}]}'),
        *(b"[" * 100_000, b'{"predictions": ' * 500, b'{"predictions": [' + b"1," * 300_000 + b"1]}"),
        *(b'{"predictions": [], "x": NaN}', b'{"predictions": [], "x": 1e400}', b'{"predictions": [], "x": "\\ud800"}'),
    ],
)
def test_invalid_document_returns_502(body: bytes) -> None:
    with pytest.raises(BadGatewayError):
        model_response.parse(ModelResponse(200, "application/json", body), "predictions")


@pytest.mark.parametrize(
    "changes", [{"model": {}}, {"image": ...}, {"probability": "high"}, {"label": "pneumonia"}, {"threshold": 0.1}]
)
def test_incomplete_or_inconsistent_prediction_returns_502(changes: dict[str, object]) -> None:
    with pytest.raises(BadGatewayError, match="invalid prediction"):
        model_response.parse(json_response(prediction(b"x", **changes)), "predictions")


def test_the_history_has_the_certainty_of_a_result() -> None:
    sets = {"status": "uncertain", "prediction_set": [], "level": 0.9}
    for certainty, expected in ((sets, "uncertain"), (None, None), (..., None)):
        document = model_response.annotate(prediction(b"x", certainty=certainty), [None], datetime.now(UTC))
        (entry,) = model_response.history_entries(document, "predictions", "ward", "r", keep_names=True)
        assert entry.certainty == expected


def test_the_history_has_the_prevalence_and_the_site_profile_of_a_result() -> None:
    stated = {"prevalence": 0.001, "profile": {"name": "st-marys", "sha256": "b" * 64}}
    for changes, expected in ((stated, (0.001, "st-marys")), ({}, (None, None))):
        document = model_response.annotate(prediction(b"x", **changes), [None], datetime.now(UTC))
        (entry,) = model_response.history_entries(document, "predictions", "ward", "r", keep_names=True)
        assert (entry.prevalence, entry.profile) == expected


def test_log_of_invalid_predictions_is_short(caplog: pytest.LogCaptureFixture) -> None:
    invalid = [{"label": "x" * 10_000, "probabilities": {"y" * 10_000: "z"}}] * 1000
    with pytest.raises(BadGatewayError):
        model_response.parse(json_response({"predictions": invalid}), "predictions")
    assert 0 < len(caplog.text) < 3000


@pytest.mark.parametrize(
    ("media_type", "picture"),
    [
        ("application/json", False),
        ("Application/JSON; charset=utf-8", False),
        ("image/png", True),
        ("image/png;x", True),
    ],
)
def test_documented_media_types_are_accepted(media_type: str, picture: bool) -> None:
    assert model_response.is_picture(ModelResponse(200, media_type, b"")) is picture


@pytest.mark.parametrize(
    "media_type",
    ["", "text/html", "image/svg+xml", "image/png2", "application/jsonp", "application/problem+json", "text/json"],
)
def test_other_media_types_return_502(media_type: str) -> None:
    with pytest.raises(BadGatewayError, match="media type"):
        model_response.is_picture(ModelResponse(200, media_type, b"{}"))


def test_explanation_without_heat_map_returns_502() -> None:
    with pytest.raises(BadGatewayError, match="invalid prediction"):
        model_response.parse(json_response(prediction(b"x")), "explanations")


def test_prediction_without_model_checksum_returns_502() -> None:
    model = {"name": "chest", "version": "1.0.0", "sha256": None}
    document = model_response.annotate(prediction(b"x", model=model), [None], NOW)
    with pytest.raises(BadGatewayError):
        model_response.history_entries(document, "predictions", "w", "", keep_names=True)


def test_upstream_problem_is_passed_on() -> None:
    problem = model_response.problem(
        json_response({"status": 422, "title": "T", "detail": "D"}, 422, "application/problem+json")
    )
    assert (problem.status, problem.title, str(problem)) == (422, "T", "D")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, NotFoundError),
        (429, TooManyRequestsError),
        (503, UnavailableError),
        (507, UnavailableError),
        (500, BadGatewayError),
        (302, BadGatewayError),
        (418, BadGatewayError),
    ],
)
def test_torchserve_errors_get_advice(status: int, kind: type[ProblemError]) -> None:
    assert type(model_response.problem(json_response({"code": status, "message": "x"}, status))) is kind


@pytest.mark.parametrize("status", [500, 507])
def test_dead_worker_returns_503_with_advice(status: int) -> None:
    results = {"code": status, "type": "InternalServerException", "message": "Worker died."}
    problem = model_response.problem(json_response(results, status))
    assert (problem.status, "try again" in str(problem)) == (503, True)


@pytest.mark.parametrize("status", [401, 403])
def test_rejected_server_key_returns_502(status: int) -> None:
    problem = model_response.problem(
        json_response({"status": status, "title": "x", "detail": "x"}, status, "application/problem+json")
    )
    assert problem.status == 502


def test_invalid_problem_details_are_replaced() -> None:
    assert model_response.problem(ModelResponse(400, "application/problem+json", b"{}")).status == 400
    assert model_response.problem(ModelResponse(500, "application/problem+json", b"no")).status == 502
    long = {"status": 400, "title": "T", "detail": "x" * 100_000}
    for body in (b"[" * 100_000, b"[]", json.dumps(long).encode(), b'{"title": 1, "detail": "D"}'):
        problem = model_response.problem(ModelResponse(500, "application/problem+json", body))
        assert (problem.status, "without a reason" in str(problem)) == (502, True)


def test_retry_after_is_passed_on() -> None:
    result = ModelResponse(503, "application/json", b"{}", retry_after="7")
    assert model_response.problem(result).headers == {"Retry-After": "7"}
