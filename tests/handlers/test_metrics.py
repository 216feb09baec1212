"""Metrics of a worker, through TorchServe's own `context.metrics` to the lines that TorchServe parses."""

import base64
import json
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ts.context import Context, RequestProcessor
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl

from handlers import errors, metrics, recipe
from handlers.classification import Classification
from handlers.domain.assessment import Assessment
from handlers.errors import UnreadableImageError
from handlers.metrics import INTERVAL, Meter
from handlers.recipe import Recipe
from tests.conftest import ROOT, brightness_recipe
from tests.handlers.test_pipeline import film

LISTED = ROOT / "radserve" / "torchserve" / "metrics.yaml"
# The regular expression by which TorchServe 0.12 reads a line (org.pytorch.serve.metrics.Metric).
LINE = re.compile(r"\[METRICS]\s*([\w\s]+)\.([\w\s]+):([0-9\-,.e]+)\|#([^|]*)(\|#type:([^|,]+))?\|#hostname:([^,]+),")
Series = tuple[str, tuple[tuple[str, str], ...]]


def cache(path: Path = LISTED) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # TorchServe leaves the file to the garbage collector
        handler = MetricsCacheYamlImpl(str(path))
    handler.initialize_cache()
    return handler


class Lines(logging.Handler):
    """Collects the series of the worker's output and adds them up as TorchServe does."""

    def __init__(self) -> None:
        super().__init__()
        self._written: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._written.append(record.getMessage())

    def read(self) -> dict[Series, float]:
        sums: dict[Series, float] = {}
        for line in self._written:
            match = LINE.match(line)
            assert match is not None, line
            pairs = [dimension.split(":") for dimension in match[4].split(",")]
            assert all(len(pair) == 2 for pair in pairs), line
            series = match[1], tuple((name, value) for name, value in pairs)
            sums[series] = sums.get(series, 0) + float(match[3])
        self._written.clear()
        return sums


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Collect the lines that TorchServe's metrics write."""
    logger = logging.getLogger("ts.metrics.caching_metric")
    handler, before = Lines(), (logger.level, logger.propagate)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield handler
    logger.removeHandler(handler)
    logger.level, logger.propagate = before


MODEL = ["model_name", "model_version"]


def series(name: str, **labels: str) -> Series:
    return name, (("model_name", "brightness"), ("model_version", "1.0.0"), *labels.items())


@pytest.fixture
def service(brightness_archive: Path, lines: Lines) -> Classification:
    handler = Classification()
    handler.initialize(Context("brightness", str(brightness_archive), {}, 4, None, "0.12.0", metrics=cache()))
    return handler


def ask(service: Classification, *bodies: bytes, **headers: str) -> None:
    context = Context("brightness", "", {}, 4, None, "0.12.0")
    context.request_processor = [RequestProcessor(headers) for _ in bodies]
    service.handle([{"body": body} for body in bodies], context)


def changed(service: Classification, lines: Lines) -> dict[Series, float]:
    service.meter.send()
    return lines.read()


def test_every_metric_is_listed_with_the_same_labels(brightness: Recipe) -> None:
    listed = yaml.safe_load(LISTED.read_bytes())["model_metrics"]["counter"]
    gauges = yaml.safe_load(LISTED.read_bytes())["model_metrics"]["gauge"]
    labels = {item["name"]: item["dimensions"][2:] for item in listed}
    assert all(item["dimensions"][:2] == ["model_name", "model_version"] for item in listed)
    assert labels == {
        sample.name: list(sample.labels)
        for metric in Meter(brightness).registry.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }
    assert {"name": "radserve_reference_share", "unit": "Ratio", "dimensions": [*MODEL, "kind", "bin"]} in gauges


def test_every_series_starts_at_zero_without_the_warm_up(service: Classification, lines: Lines) -> None:
    begun = lines.read()
    assert set(begun.values()) == {0.0}
    assert series("radserve_labels_total", label="bright") in begun
    assert series("radserve_refusals_total", code="422", reason="UnusableImage") in begun
    assert changed(service, lines) == {}


def test_no_request_adds_a_series(service: Classification, lines: Lines) -> None:
    begun = set(lines.read())
    ask(service, film(), b"garbage", b"", film(8, 8), b'{"image": "!"}', b'{"patient": "Jane Doe"}', film()[:60])
    ask(service, film(), accept="text/html")
    ask(service, film(), explain="True")
    ask(service, *[b'{"instances": []}'] * 4, **{"content-type": "application/json"})
    after = changed(service, lines)
    assert set(after) <= begun
    assert len(begun) < 250
    assert not any("Jane" in str(item) for item in after)


def test_a_prediction_is_counted_with_label_probability_and_durations(service: Classification, lines: Lines) -> None:
    lines.read()
    ask(service, film(), film())
    sums = changed(service, lines)
    assert sums[series("radserve_requests_total", code="200")] == 2
    assert sum(value for (name, _), value in sums.items() if name == "radserve_labels_total") == 2
    assert not [item for item in sums if item[0] == "radserve_refusals_total"]
    assert sums[series("radserve_probability_count")] == 2
    bins = {labels[2:]: value for (name, labels), value in sums.items() if name == "radserve_distribution_total"}
    assert bins == {
        (("kind", "label"), ("bin", "dark")): 2,
        (("kind", "probability"), ("bin", "0.6")): 2,
    }
    assert sums[series("radserve_batch_requests_sum")] == 2
    assert sums[series("radserve_batch_requests_count")] == 1
    assert sums[series("radserve_request_images_sum")] == sums[series("radserve_request_images_count")] == 2
    stages = {labels[2][1]: sums[name, labels] for name, labels in sums if name == "radserve_stage_seconds_count"}
    assert stages == {"read": 1, "prepare": 1, "inference": 1, "answer": 2, "render": 2, "handle": 1}
    total = {stage: sums[series("radserve_stage_seconds_sum", stage=stage)] for stage in stages}
    assert total.pop("handle") >= sum(total.values()) > 0


@pytest.mark.parametrize(
    ("body", "headers", "code", "reason"),
    [
        (b"garbage", {}, "415", "UnsupportedMediaType"),
        (film()[:60], {}, "400", "UnreadableImage"),
        (film(8, 8), {}, "422", "UnusableImage"),
        (film(), {"accept": "text/html"}, "406", "NotAcceptable"),
        (b"{", {"content-type": "application/json"}, "400", "BadRequest"),
    ],
    ids=["no image", "cut off", "too small", "wants html", "no json"],
)
def test_a_rejected_image_is_counted_under_its_reason(
    service: Classification, lines: Lines, body: bytes, headers: dict[str, str], code: str, reason: str
) -> None:
    lines.read()
    ask(service, body, **headers)
    sums = changed(service, lines)
    assert {
        item: value for item, value in sums.items() if item[0] in {"radserve_refusals_total", "radserve_requests_total"}
    } == {
        series("radserve_refusals_total", code=code, reason=reason): 1,
        series("radserve_requests_total", code=code): 1,
    }
    assert series("radserve_probability_count") not in sums


def test_images_of_one_request_are_counted_one_by_one(service: Classification, lines: Lines) -> None:
    lines.read()
    images = [{"b64": base64.b64encode(data).decode()} for data in (film(), film(8, 8), film())]
    ask(service, json.dumps({"instances": images}).encode(), **{"content-type": "application/json"})
    sums = changed(service, lines)
    assert sums[series("radserve_refusals_total", code="422", reason="UnusableImage")] == 1
    assert sums[series("radserve_requests_total", code="200")] == 1
    assert sums[series("radserve_request_images_sum")] == 3
    assert sums[series("radserve_probability_count")] == 2


def test_an_explanation_is_timed_as_such(service: Classification, lines: Lines) -> None:
    lines.read()
    ask(service, film(), explain="True")
    sums = changed(service, lines)
    assert sums[series("radserve_stage_seconds_count", stage="explain")] == 1
    assert series("radserve_stage_seconds_count", stage="answer") not in sums


def test_a_batch_writes_no_line_until_all_are_sent_together(service: Classification, lines: Lines) -> None:
    lines.read()
    for _ in range(20):
        ask(service, film())
    assert lines.read() == {}
    assert changed(service, lines)[series("radserve_requests_total", code="200")] == 20


def test_counts_are_sent_automatically(service: Classification, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    lines.read()
    monkeypatch.setattr(metrics, "INTERVAL", 0.05)
    for _ in range(2):  # the second time as well
        ask(service, film())
        timer = service.meter._timer
        assert timer is not None
        assert timer.daemon, "it must not keep a worker from leaving"
        timer.join()
        assert lines.read()[series("radserve_requests_total", code="200")] == 1
    assert INTERVAL <= 5


def test_a_worker_sends_its_counts_before_it_exits(service: Classification, lines: Lines) -> None:
    lines.read()
    service.lost = True
    ask(service, film())
    assert lines.read()[series("radserve_refusals_total", code="503", reason="ServiceUnavailable")] == 1


def test_an_archive_newer_than_its_server_sends_only_listed_metrics(
    tmp_path: Path, lines: Lines, brightness: Recipe
) -> None:
    known = yaml.safe_load(LISTED.read_bytes())
    known["model_metrics"] = {"counter": known["model_metrics"]["counter"][:1]}
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(known))
    meter = Meter(brightness)
    meter.connect(cache(tmp_path / "old.yaml"), {("label", "bright"): 0.5})
    meter.rejection(UnreadableImageError("x"))
    meter.requests.labels(400).inc()
    lines.read()
    meter.send()
    assert lines.read() == {series("radserve_requests_total", code="400"): 1}


def test_the_reference_is_sent_as_gauges(lines: Lines, brightness: Recipe) -> None:
    Meter(brightness).connect(cache(), {("label", "bright"): 0.25, ("domain", "10"): 0.0})
    shares = {labels[2:]: value for (name, labels), value in lines.read().items() if name == "radserve_reference_share"}
    assert shares == {(("kind", "label"), ("bin", "bright")): 0.25, (("kind", "domain"), ("bin", "10")): 0.0}


def test_an_invalid_prediction_is_not_counted_in_part(brightness: Recipe) -> None:
    meter = Meter(brightness)
    before = meter.series()
    with pytest.raises(KeyError):
        meter.prediction({"label": "bright", "probabilities": {"dark": 1.0}})
    assert meter.series() == before


def test_an_assessment_is_counted_by_status_and_percentile(lines: Lines, brightness: Recipe) -> None:
    meter = Meter(brightness)
    meter.connect(cache())
    lines.read()
    meter.assessment(Assessment("unlike", 3.0, 2, 100.0, "other_image"))
    meter.send()
    assert lines.read() == {
        series("radserve_domain_total", status="unlike"): 1,
        series("radserve_distribution_total", kind="domain", bin="100"): 1,
    }


def test_delimiters_in_labels_are_replaced(lines: Lines) -> None:
    data = brightness_recipe() | {"labels": ["dark", "bright, or: a|b #1"], "decision": None}
    meter = Meter(recipe.parse(data, "test"))
    meter.connect(cache())
    assert series("radserve_labels_total", label="bright or a b 1") in lines.read()
    meter.prediction({"label": "bright, or: a|b #1", "probabilities": {"dark": 0.2, "bright, or: a|b #1": 0.8}})
    meter.send()
    assert lines.read()[series("radserve_labels_total", label="bright or a b 1")] == 1


def test_a_segmentation_counts_labels_and_has_no_probability(lines: Lines) -> None:
    data = brightness_recipe() | {"task": "segmentation", "activation": "sigmoid"}
    meter = Meter(recipe.parse(data, "test"))
    meter.connect(cache())
    assert not [name for name, _ in lines.read() if name.startswith("radserve_probability")]
    meter.prediction({"label": "bright", "positive": True, "area": {}})
    meter.send()
    assert lines.read() == {
        series("radserve_labels_total", label="bright"): 1,
        series("radserve_distribution_total", kind="label", bin="bright"): 1,
    }


def test_buckets_are_cumulative_and_include_their_bound(lines: Lines, brightness: Recipe) -> None:
    meter = Meter(brightness)
    meter.connect(cache())
    lines.read()
    for count in (2, 3, 64, 65):
        meter.images.observe(count)
    meter.send()
    sums = {
        labels[-1]: value for (name, labels), value in lines.read().items() if name == "radserve_request_images_bucket"
    }
    bounds = {"2": 1, "4": 2, "8": 2, "16": 2, "32": 2, "64": 3, "+Inf": 4}
    assert sums == {("le", bound): count for bound, count in bounds.items()}


def test_without_torchserve_nothing_is_sent_and_no_timer_starts(lines: Lines, brightness: Recipe) -> None:
    meter = Meter(brightness)
    meter.connect(None)
    meter.requests.labels(200).inc()
    meter.schedule_send()
    assert meter._timer is None
    meter.send()
    assert lines.read() == {}


def test_every_request_error_has_a_reason() -> None:
    kinds = {item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, errors.RequestError)}
    assert set(metrics._subclasses(errors.RequestError)) == kinds - {errors.RequestError}
