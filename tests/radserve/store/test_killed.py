"""SIGKILL in the middle of a push and of a pull: the next one goes on, and meanwhile nothing is half there."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from radserve.build import mar, model_store
from radserve.store import open_store
from radserve.store.upload import PART
from tests.conftest import ROOT
from tests.radserve.store.archives import make
from tests.radserve.store.conftest import Aws, command, run

BIG = 2 * PART + 1_000_000


def kill_at(aws: Aws, count: int, method: str, *words: str | Path) -> None:
    """Run a command until so many requests for the blob have begun, then kill it."""
    process = subprocess.Popen(command(*words), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    end = time.monotonic() + 30
    while len(blob_requests(aws, method)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(0.3)
    process.kill()
    process.communicate()


def blob_requests(aws: Aws, method: str) -> list[dict[str, str]]:
    return [item for item in aws.requests() if item["method"] == method and "blobs" in item["path"]]


def test_a_push_that_was_killed_is_gone_on_with(aws: Aws, tmp_path: Path) -> None:
    entry = make(tmp_path / "here", size=BIG)
    words = ("push", "chest", "--store", aws.store, "--model-store", tmp_path / "here")
    aws.fail({"do": "wait", "method": "PUT", "path": "blobs", "every": 3, "times": 1, "seconds": 60})
    kill_at(aws, 3, "PUT", *words)
    assert aws.keys() == []
    assert open_store(aws.store).entries() == ()
    aws.fail()
    assert "pushed" in run(*words).stdout
    assert ["partNumber=3" in item["query"] for item in blob_requests(aws, "PUT")] == [True]
    mar.verify(open_store(aws.store).pull("chest", None, tmp_path / "there"), tmp_path / "there")
    assert aws.keys() == [f"blobs/sha256/{entry.sha256}", "index.json"]


def test_a_pull_that_was_killed_is_gone_on_with(aws: Aws, tmp_path: Path) -> None:
    entry = make(tmp_path / "here", size=BIG)
    open_store(aws.store).push(entry, tmp_path / "here")
    there = tmp_path / "there"
    words = ("pull", "chest", "--store", aws.store, "--model-store", there)
    aws.fail({"do": "stall", "method": "GET", "path": "blobs", "seconds": 60})
    kill_at(aws, 1, "GET", *words)
    assert not (there / entry.file).exists()
    assert model_store.read(there).archives == ()
    (partial,) = there.glob(".pull-*")
    held = partial.stat().st_size
    assert 0 < held < entry.size
    aws.fail()
    assert "pulled" in run(*words).stdout
    assert [item["range"] for item in blob_requests(aws, "GET")] == [f"bytes={held}-"]
    mar.verify(entry, there)
    assert list(there.glob(".pull-*")) == []


def test_a_pull_that_was_killed_before_it_was_entered_fetches_nothing_again(aws: Aws, tmp_path: Path) -> None:
    entry = make(tmp_path / "here")
    store = open_store(aws.store)
    store.push(entry, tmp_path / "here")
    store.pull("chest", None, tmp_path / "there")
    model_store.write(tmp_path / "there", model_store.Index())
    aws.fail()
    assert store.pull("chest", None, tmp_path / "there") == entry
    assert blob_requests(aws, "GET") == []
    assert model_store.read(tmp_path / "there").archives == (entry,)
