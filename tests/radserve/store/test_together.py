"""Concurrent pushes and pulls."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from handlers.errors import RadServeError
from radserve.build import model_store
from radserve.store import open_store
from tests.radserve.store.archives import make
from tests.radserve.store.conftest import Aws, Pair

COUNT = 8


@pytest.fixture(params=["folder", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "store")
    aws: Aws = request.getfixturevalue("aws")
    return aws.store


def test_concurrent_pushes_lose_no_entry(url: str, tmp_path: Path, pair: Pair) -> None:
    entries = [make(tmp_path / "here", f"model-{number}", content=number) for number in range(COUNT)]
    with ThreadPoolExecutor(COUNT) as pool:
        stores = [open_store(url, signing_key=pair.private) for _ in entries]
        pushed = list(
            pool.map(lambda pair: pair[0].push(pair[1], tmp_path / "here").fresh, zip(stores, entries, strict=True))
        )
    assert pushed == [True] * COUNT
    snapshot = stores[0].snapshot()
    assert [item.entry for item in snapshot.catalog.archives] == entries
    assert snapshot.catalog.serial == COUNT


def test_concurrent_pushes_of_one_version_publish_only_one(url: str, tmp_path: Path) -> None:
    def push(number: int) -> str:
        folder = tmp_path / f"here-{number}"
        try:
            open_store(url).push(make(folder, content=number), folder)
        except RadServeError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(2) as pool:
        first, second = sorted(pool.map(push, range(2)))
    assert first == ""
    assert "A version never changes" in second
    assert not open_store(url).verify().failures


def test_concurrent_pulls_of_one_archive_download_it_once(aws: Aws, tmp_path: Path) -> None:
    entry = make(tmp_path / "here", size=100_000)
    open_store(aws.store).push(entry, tmp_path / "here")
    aws.fail()
    with ThreadPoolExecutor(COUNT) as pool:
        pulled = list(
            pool.map(lambda _: open_store(aws.store).pull("chest", None, tmp_path / "there").fresh, range(COUNT))
        )
    assert sorted(pulled) == [False] * (COUNT - 1) + [True]
    assert len([item for item in aws.requests() if "blobs" in item["path"]]) == 1


def test_concurrent_pulls_and_builds_lose_no_entry_of_the_model_store(tmp_path: Path) -> None:
    url, there = str(tmp_path / "store"), tmp_path / "there"
    entries = [make(tmp_path / "here", f"model-{number}") for number in range(COUNT)]
    built = [make(tmp_path / "built", f"built-{number}") for number in range(COUNT)]
    for entry in entries:
        open_store(url).push(entry, tmp_path / "here")
    there.mkdir()
    with ThreadPoolExecutor(COUNT) as pool:
        pulls = [pool.submit(open_store(url).pull, entry.name, None, there) for entry in entries]
        builds = [pool.submit(model_store.enter, entry, there, tmp_path / "built" / entry.file) for entry in built]
        for pull, build in zip(pulls, builds, strict=True):
            pull.result()
            build.result()
    assert set(model_store.read(there).archives) == {*entries, *built}
