"""Tests of the queueing model, against results that are known in closed form."""

import pytest

from benchmarks.queueing import Server, closed, highest_rate, open_loop

ONE = Server(cores=8, workers=1, batch=1, receive=0.0, start=0.0, each=0.01)


def mean_wait(utilisation: float, service: float) -> float:
    """Return the mean wait in an M/D/1 queue (Pollaczek-Khinchine)."""
    return utilisation * service / (2 * (1 - utilisation))


@pytest.mark.parametrize("utilisation", [0.3, 0.6, 0.8])
def test_a_single_worker_agrees_with_an_m_d_1_queue(utilisation: float) -> None:
    load = open_loop(ONE, utilisation / 0.01, 40_000)
    # The median of the wait has no simple form; the mean follows from Little's law with the mean latency.
    assert load.mean == pytest.approx(10 + 1e3 * mean_wait(utilisation, 0.01), rel=0.05)


def test_one_client_gets_the_sum_of_all_work() -> None:
    load = closed(Server(cores=2, workers=1, batch=8, receive=0.002, start=0.003, each=0.005), 1, 200)
    assert load.rate == pytest.approx(100)
    assert load.p50 == load.p99 == pytest.approx(10)


def test_many_clients_get_full_batches_of_all_workers() -> None:
    server = Server(cores=16, workers=2, batch=4, receive=0.0, start=0.004, each=0.004)
    assert closed(server, 32, 2000).rate == pytest.approx(server.capacity, rel=0.02) == pytest.approx(400, rel=0.02)


def test_work_that_exceeds_the_cores_is_slowed_down() -> None:
    server = Server(cores=2, workers=4, batch=1, receive=0.005, start=0.0, each=0.015)
    assert closed(server, 16, 4000).rate == pytest.approx(100, rel=0.02)


def test_the_highest_rate_keeps_its_percentile_and_is_below_capacity() -> None:
    load = highest_rate(ONE, p99=60, images=20_000)
    assert load.p99 < 60
    assert 0.5 * ONE.capacity < load.rate < ONE.capacity
    with pytest.raises(ValueError, match="one request"):
        highest_rate(ONE, p99=5, images=1000)
