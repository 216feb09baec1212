"""Tests of radserve.rayserve.metrics."""

from prometheus_client.parser import text_string_to_metric_families

from radserve.rayserve.metrics import exposition


def test_metrics_have_types_and_readable_labels() -> None:
    values: dict[tuple[str, tuple[str, ...]], float] = {
        ("seen_total", ("Größe", 'a"b\\c')): 2,
        ("share", ("x", "y")): 0.5,
        ("seen_total", ("x", "y")): 1,
    }
    labels = {key: ["model", "label"] for key in ("seen_total", "share")}
    text = exposition(values, labels, {"seen_total": "counter", "share": "gauge"})
    seen, share = text_string_to_metric_families(text)
    assert (seen.type, share.type) == ("counter", "gauge")
    assert [(sample.labels["model"], sample.labels["label"], sample.value) for sample in seen.samples] == [
        ("Größe", 'a"b\\c', 2),
        ("x", "y", 1),
    ]
