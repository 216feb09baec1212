"""The TorchServe adapter, called with TorchServe's own `Context`."""

import base64
import hashlib
import json
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from handlers import worker
from handlers.classification import Classification
from handlers.errors import DeviceLostError, ProgramError
from handlers.formats.image import Limits
from handlers.formats.raw import RawSamples
from handlers.pipeline import Pipeline, PreparedImage
from handlers.program import Program
from handlers.request_body import BodyLimits
from tests.handlers.batch import B64, ask, context
from tests.handlers.test_pipeline import film

SCOPE = ["checked", "unchecked"]


def test_a_prediction_has_the_documented_keys(service: Classification) -> None:
    ((status, media, answer),) = ask(service, (film(), {}))
    assert (status, media) == (200, "application/json")
    assert list(answer) == ["model", "label", "probability", "probabilities", "positive", "threshold", "image", *SCOPE]
    assert answer["model"] == {"name": "brightness", "version": "1.0.0", "sha256": None}
    assert answer["probability"] == answer["probabilities"][answer["label"]]
    assert {key: answer["image"][key] for key in ("format", "width", "height")} == {
        "format": "png",
        "width": 96,
        "height": 64,
    }


def test_a_response_has_its_labels_in_a_header_for_the_proxy(service: Classification) -> None:
    around = context(Path(), [{}, {}])
    service.handle([{"body": film()}, {"body": b"garbage"}], around)
    assert around.get_response_headers(0)["X-Outcome"] == "label:dark:1"
    assert "X-Outcome" not in around.get_response_headers(1)


def test_an_archive_with_an_invalid_reference_serves(
    brightness_archive: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(brightness_archive, tmp_path / "archive"))
    (folder / "metrics.json").write_text('{"reference": null}')
    service = Classification()
    service.initialize(context(folder, []))
    assert "the reference of monitoring is invalid" in caplog.text
    assert ask(service, (film(), {}))[0][0] == 200


def test_each_request_of_a_batch_has_its_own_status(service: Classification) -> None:
    answers = ask(
        service,
        (film(), {}),
        (b"garbage", {}),
        (film(8, 8), {}),
        (film(), {"accept": "image/png"}),
        (film(), {"Content-Encoding": "br"}),
        ({"image": B64}, {}),
        (bytearray(film()), {"Content-Type": "image/jpeg"}),
    )
    assert [status for status, _, _ in answers] == [200, 415, 422, 406, 415, 200, 200]
    for status, media, document in answers:
        assert media == ("application/json" if status == 200 else "application/problem+json")
        assert ("label" in document) == (status == 200)
        if status != 200:
            assert document["status"] == status
            assert set(document) == {"status", "title", "detail"}


def test_every_response_of_a_batch_is_that_of_its_own_request(service: Classification) -> None:
    films = [film(low=10 * index) for index in range(6)]
    several = {"instances": [{"b64": base64.b64encode(data).decode()} for data in films[:3]]}
    bodies = [several, b"garbage", films[4], {"instances": [{"b64": "AAAA"}]}, films[5], b"PK\x03\x04", films[3]]
    answers = [document for _, _, document in ask(service, *((body, {}) for body in bodies))]
    digests = [hashlib.sha256(data).hexdigest() for data in films]
    assert [entry["image"]["sha256"] for entry in answers[0]["predictions"]] == digests[:3]
    assert [answers[index]["image"]["sha256"] for index in (2, 4, 6)] == [digests[4], digests[5], digests[3]]
    assert [answers[index]["status"] for index in (1, 5)] == [415, 400]
    assert answers[3]["predictions"][0]["status"] == 415


def test_the_pixels_and_bytes_of_a_request_are_limited_as_a_sum(service: Classification) -> None:
    data = film()
    document = {"instances": [{"b64": B64}] * 4}
    for limits in (BodyLimits(pixels=2 * 96 * 64), BodyLimits(unzipped=2 * len(data) + 1)):
        service.limits = limits
        answers = ask(service, (data, {}), (document, {}), (data, {}))
        assert [status for status, _, _ in answers] == [200, 200, 200]
        assert [entry.get("status", 200) for entry in answers[1][2]["predictions"]] == [200, 200, 413, 413]
        assert "Send fewer images in one request" in answers[1][2]["predictions"][3]["detail"]


def test_a_slow_request_takes_no_time_of_its_neighbours(
    service: Classification, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = 0.0
    prepare = Pipeline.prepare

    def slow(self: Pipeline, data: bytes | RawSamples, limits: Limits | None = None, *rest: Any) -> PreparedImage:
        nonlocal clock
        prepared = prepare(self, data, limits, *rest)
        clock += 3
        return prepared

    monkeypatch.setattr(Pipeline, "prepare", slow)
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    document = {"instances": [{"b64": B64}] * 160}
    answers = ask(
        service, (document, {"X-Request-Id": "a"}), (film(), {}), (document, {"X-Request-Id": "b"}), (film(), {})
    )
    assert [status for status, _, _ in answers] == [200, 200, 200, 200]
    lines = {record.request_id: record for record in caplog.records}  # type: ignore[attr-defined]
    assert len(caplog.records) == 2
    for name, (_, _, answer) in (("a", answers[0]), ("b", answers[2])):
        statuses = [entry.get("status", 200) for entry in answer["predictions"]]
        done = statuses.count(200)
        assert 2 <= done <= 6
        assert statuses == [200] * done + [503] * (160 - done)
        assert "takes too long" in answer["predictions"][-1]["detail"]
        assert lines[name].levelname == "WARNING"
        assert lines[name].getMessage().startswith(f"{160 - done} of 160 images are not processed")
        assert "\n" not in lines[name].getMessage()
    assert clock <= 36  # 30 s are half of responseTimeout; the image in work is finished


def test_the_time_of_a_batch_is_half_of_its_response_timeout(brightness_archive: Path) -> None:
    around = context(brightness_archive, [])
    around.model_yaml_config = {"responseTimeout": 10}
    handler = Classification()
    handler.initialize(around)
    assert handler.seconds == 5


def test_a_describe_header_changes_no_response(service: Classification) -> None:
    answers = ask(service, (film(), {"describe": "True"}), (film(), {}))
    assert [status for status, _, _ in answers] == [200, 200]


def test_explanations_and_predictions_share_a_batch(service: Classification) -> None:
    answers = ask(service, (film(), {"explain": "True"}), (film(), {"explain": "False"}), (film(), {}))
    assert [status for status, _, _ in answers] == [200, 200, 200]
    assert ["explanation" in document for _, _, document in answers] == [True, False, False]


def test_a_client_cannot_turn_a_prediction_into_an_explanation(service: Classification) -> None:
    ((status, _, document),) = ask(service, (film(), {"Explain": "True", "explain": "False"}))
    assert status == 200
    assert "explanation" not in document


def test_instances_get_results_in_order_each_with_its_own_error(service: Classification) -> None:
    document = {"instances": [{"b64": B64}, {"b64": "AAAA"}, {"b64": B64}]}
    ((status, _, answer),) = ask(service, (document, {}))
    assert status == 200
    first, second, third = answer["predictions"]
    assert first == third
    assert second["status"] == 415
    assert "label" not in second


def test_more_instances_than_a_batch_all_get_results(service: Classification) -> None:
    ((_, _, answer),) = ask(service, ({"instances": [{"b64": B64}] * 9}, {}))
    assert [item["label"] for item in answer["predictions"]] == [answer["predictions"][0]["label"]] * 9


def test_a_response_too_large_for_torchserve_becomes_an_error(service: Classification) -> None:
    service.max_response = 2000
    answers = ask(service, ({"instances": [{"b64": B64}] * 9}, {}), (film(), {}))
    assert [status for status, _, _ in answers] == [500, 200]
    assert "Send fewer images" in answers[0][2]["detail"]


def test_a_lost_device_gives_503_to_the_batch_and_ends_the_process(
    service: Classification, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers: list[tuple[float, tuple[Any, ...]]] = []

    class Timer:
        def __init__(self, seconds: float, function: object, args: tuple[Any, ...]) -> None:
            assert function is os._exit
            timers.append((seconds, args))

        def start(self) -> None:
            pass

    def lost(*_: object) -> None:
        raise DeviceLostError("gone")

    monkeypatch.setattr(Program, "run", lost)
    monkeypatch.setattr(threading, "Timer", Timer)
    answers = ask(service, (film(), {}), (film(), {"content-encoding": "br"}))
    assert [status for status, _, _ in answers] == [503, 415]
    monkeypatch.undo()
    assert [status for status, _, _ in ask(service, (film(), {}))] == [503]  # this process never recovers
    assert timers == [(0.5, (1,))]


def test_an_unexpected_error_in_rendering_becomes_an_internal_error_without_its_text(
    service: Classification, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise LookupError("secret")

    monkeypatch.setattr(Classification, "predict", broken)
    ((status, _, document),) = ask(service, (film(), {}))
    assert status == 500
    assert "secret" not in json.dumps(document)


def test_a_worker_whose_sample_prediction_changed_does_not_start(brightness_archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    shutil.copytree(brightness_archive, folder)
    answer = json.loads((folder / "sample.json").read_bytes())
    answer["probabilities"] = {"dark": 0.9, "bright": 0.1}
    (folder / "sample.json").write_text(json.dumps(answer))
    with pytest.raises(ProgramError, match="answers its sample with"):
        Classification().initialize(context(folder, []))


def test_a_worker_that_rejects_its_sample_does_not_start(brightness_archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    shutil.copytree(brightness_archive, folder)
    (folder / "sample.png").write_bytes(film(8, 8))
    with pytest.raises(ProgramError, match="rejects its own sample"):
        Classification().initialize(context(folder, []))


def test_the_archives_sha256_comes_from_the_index(
    brightness_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "index.json"
    monkeypatch.setenv(worker.INDEX, str(index))
    index.write_text(json.dumps({"archives": [{"name": "brightness", "version": "1.0.0", "sha256": "ab" * 32}]}))
    handler = Classification()
    handler.initialize(context(brightness_archive, []))
    assert handler.model.sha256 == "ab" * 32
    index.write_text(json.dumps({"archives": []}))
    with pytest.raises(ProgramError, match="not listed"):
        Classification().initialize(context(brightness_archive, []))


def test_a_stopping_server_responds_503(
    service: Classification, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(worker.CLOSING, str(tmp_path / "closing"))
    assert [status for status, _, _ in ask(service, (film(), {}))] == [200]
    (tmp_path / "closing").touch()
    assert [status for status, _, _ in ask(service, (film(), {}))] == [503]


def server_errors(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return request id and text of each logged error of a request."""
    return [(record.request_id, record.getMessage()) for record in caplog.records if hasattr(record, "request_id")]


def test_each_5xx_has_one_log_line_with_traceback_and_request_id(
    service: Classification, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise LookupError("DOE^JANE")

    service.max_response = 2000
    many = {"instances": [{"b64": B64}] * 9}
    answers = ask(service, (many, {"X-Request-Id": "long"}), (film(), {}), (b"garbage", {"X-Request-Id": "bad"}))
    assert [status for status, _, _ in answers] == [500, 200, 415]
    monkeypatch.setattr(Classification, "predict", broken)
    ask(service, (film(), {"X-Request-Id": "one"}), ({"instances": [{"b64": B64}] * 2}, {"x-request-id": "two"}))
    (first, *others) = server_errors(caplog)
    assert first[0] == "long"
    assert "the limit is 2000" in first[1]
    assert "in _render\n" in first[1]
    assert [request_id for request_id, _ in others] == ["one", "two", "two"]  # one for each image
    for _, text in others:
        assert "The server failed while rendering this prediction" in text
        assert "in broken\n" in text
        assert text.endswith("LookupError")


def codes(service: Classification) -> dict[str, float]:
    series = service.meter.series()
    return {labels[0]: value for (name, labels), value in series.items() if name == "radserve_requests_total"}


@pytest.mark.parametrize(
    ("place", "function"),
    [
        ("handlers.request_body.read", "read"),
        ("handlers.torchserve_handler._size", "batch"),
        ("handlers.metrics.Meter.prediction", "request"),
        ("handlers.pipeline.Pipeline.stream", "batch"),
        ("handlers.pipeline.Pipeline._prepare_batch", "stream"),
        ("handlers.torchserve_handler.render", "render"),
    ],
)
@pytest.mark.parametrize(("error", "status"), [(ZeroDivisionError, 500), (MemoryError, 503)])
def test_no_exception_escapes_to_torchserve(
    service: Classification,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: str,
    function: str,
    error: type[Exception],
    status: int,
) -> None:
    def broken(*_: object) -> None:
        raise error

    before = codes(service).get(str(status), 0)
    with monkeypatch.context() as patch:
        patch.setattr(place, broken)
        answers = ask(service, (film(), {"x-request-id": "a"}), (film(), {"x-request-id": "b"}))
    assert all(answer[0] >= 500 for answer in answers), function
    assert answers[0][0] == status
    assert codes(service)[str(status)] > before
    logged = server_errors(caplog)
    assert [request_id for request_id, _ in logged] == ["a", "b"]
    assert "in broken\n" in logged[0][1]


def test_a_failed_request_leaves_the_results_of_the_next_one(
    service: Classification, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict, failures = Classification._predict, iter([True, False, False, False])

    def fragile(self: Classification, *arguments: Any) -> Any:
        if next(failures):
            raise ZeroDivisionError
        return predict(self, *arguments)

    monkeypatch.setattr(Classification, "_predict", fragile)
    answers = ask(service, (film(90, 64), {}), ({"instances": [{"b64": B64}] * 2}, {}))
    assert [status for status, _, _ in answers] == [500, 200]
    assert [item["image"]["width"] for item in answers[1][2]["predictions"]] == [96, 96]
