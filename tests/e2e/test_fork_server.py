"""A real server whose workers are forks, while workers, their clients and the fork server are killed."""

import random
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from benchmarks.fork_kills import Target, kill
from radserve.build.source import find_sources
from radserve.torchserve import fork_server, verified_models
from tests.built_archives import Provide
from tests.conftest import ROOT
from tests.repack import NAME
from tests.server import running

pytestmark = pytest.mark.e2e


def test_killed_workers_are_replaced_with_the_same_predictions_and_no_process_is_orphaned(
    provide: Provide, tmp_path: Path
) -> None:
    random.seed(0)
    store, runtime = tmp_path / "store", tmp_path / "run"
    provide(store, find_sources(ROOT / "archives", [NAME, "cifar10-lenet"]))
    models = verified_models.select(store, [])
    with (
        running(store, tmp_path / "log", "--runtime", str(runtime)) as server,
        closing(Target(server.url, runtime, models)) as target,
    ):
        (parent,) = target.find("fork server")
        assert [(worker.name(), worker.parent()) for worker in server.workers()] == [(fork_server.NAME, parent)] * 2
        # The worker that is killed just after the fork server is replaced by a fresh process, which predicts the same.
        # The next one waits for the new fork server, unless the machine is so fast that there is none yet.
        report = kill(target, ["worker", "client", "worker", "fork server", "worker", "client"])
        report.require(1.0)
        assert report.failures == []
        assert report.started in ({"fork": 4, "fresh": 1}, {"fork": 3, "fresh": 2})
        assert "Starting a fresh worker process without the fork server" in server.log.read_text()
        assert '"fork server failed; it starts again' in server.log.read_text()
    assert psutil.wait_procs(target.processes(), timeout=15)[1] == []
