"""Options of an nginx for tests."""

from pathlib import Path

import pytest

from radserve.host.run_directory import RunDirectory
from radserve.proxy.configuration import Upstreams
from radserve.proxy.options import ProxyOptions
from tests.radserve.proxy.running import CAPACITY
from tests.server import free_ports


@pytest.fixture
def run_directory(tmp_path: Path) -> RunDirectory:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    return RunDirectory(folder)


@pytest.fixture
def upstreams(run_directory: RunDirectory) -> Upstreams:
    """Upstreams that do not exist: nginx answers 502."""
    return Upstreams(1, run_directory, 1000, 60, CAPACITY, drain_timeout=5.0)


@pytest.fixture
def options(tmp_path: Path) -> ProxyOptions:
    port, management_port, metrics_port = free_ports(3)
    log = tmp_path / "access.log"
    return ProxyOptions("127.0.0.1", port, "127.0.0.1", management_port, metrics_port, access_log=log, plain_http=True)
