"""Tests of the page benchmark."""

from benchmarks import page


def test_a_busy_thread_delays_inputs_by_what_is_left_of_its_task() -> None:
    gaps = [float(page.PERIOD)] * 100 + [page.PERIOD + 100.0]
    results = page.summary({"delay": [1.0, 2.0, 3.0], "paint": [10.0, 20.0, 30.0], "gap": gaps})
    busy = results["thread busy"]
    assert busy["n"] == 101 * page.PERIOD + 100  # milliseconds of the run
    assert busy["p50"] == 0
    assert busy["p100"] == 100
    assert 65 < busy["p95"] < 75  # of the run, 5% are 30 ms: those with 71 to 100 ms left
    assert results["input delay"]["p50"] == 2
