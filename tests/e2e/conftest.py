"""Fixtures that several modules share."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.authority import Authority
from tests.e2e import split_proxy
from tests.e2e.split_proxy import Split
from tests.proxy import Keys, Proxy
from tests.server import Server, running
from tests.spots import packed


@pytest.fixture
def client(proxy: Proxy) -> Iterator[httpx.Client]:
    with proxy.client() as http_client:
        yield http_client


@pytest.fixture(scope="module")
def spots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the smallest segmentation model."""
    folder = tmp_path_factory.mktemp("spots")
    packed(folder / "store", folder)
    with running(folder / "store", folder / "log") as started:
        yield started


@pytest.fixture(scope="session")
def split_proxy_process(
    server: Server, runtime: Path, keys: Keys, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Split]:
    with split_proxy.running(server, runtime, keys, authority, tmp_path_factory.mktemp("split")) as split:
        yield split


@pytest.fixture
def split(split_proxy_process: Split) -> Iterator[Split]:
    """A proxy that starts and ends without tables, and that logs no warning meanwhile."""
    split = split_proxy_process
    split.clear()
    split.upstream.requests.clear()
    split.complaints()
    yield split
    split.clear()
    # A copy times out on a busy machine; a prediction would fail, after a minute.
    assert [line for line in split.complaints() if "upstream timed out" not in line] == []
