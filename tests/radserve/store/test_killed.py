"""SIGKILL during a push or a pull: nothing incomplete is visible, and the next run continues."""

import subprocess
import time
from pathlib import Path

from radserve.build import mar, model_store
from radserve.store import open_store
from radserve.store.object_storage import PART_SIZE
from tests.conftest import ROOT
from tests.radserve.store.archives import make
from tests.radserve.store.conftest import Aws, command, run

BIG = 2 * PART_SIZE + 1_000_000


def kill_at(aws: Aws, count: int, method: str, *arguments: str | Path) -> None:
    """Run a command until it has sent this number of requests for the blob, then kill it."""
    process = subprocess.Popen(command(*arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
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


def test_the_next_push_uploads_only_the_missing_parts(aws: Aws, tmp_path: Path) -> None:
    entry = make(tmp_path / "here", size=BIG)
    arguments = ("push", "chest", "--store", aws.store, "--model-store", tmp_path / "here")
    aws.fail({"do": "wait", "method": "PUT", "path": "blobs", "every": 3, "times": 1, "seconds": 60})
    kill_at(aws, 3, "PUT", *arguments)
    assert aws.keys() == []
    assert open_store(aws.store).entries() == ()
    aws.fail()
    assert "pushed" in run(*arguments).stdout
    assert ["partNumber=3" in item["query"] for item in blob_requests(aws, "PUT")] == [True]
    mar.verify(open_store(aws.store).pull("chest", None, tmp_path / "there").archive, tmp_path / "there")
    assert aws.keys() == [f"blobs/sha256/{entry.sha256}", "index.json"]


def test_the_next_pull_continues_the_download(aws: Aws, tmp_path: Path) -> None:
    entry = make(tmp_path / "here", size=BIG)
    open_store(aws.store).push(entry, tmp_path / "here")
    there = tmp_path / "there"
    arguments = ("pull", "chest", "--store", aws.store, "--model-store", there)
    aws.fail({"do": "stall", "method": "GET", "path": "blobs", "seconds": 60})
    kill_at(aws, 1, "GET", *arguments)
    assert not (there / entry.file).exists()
    assert model_store.read(there).archives == ()
    (partial,) = there.glob(".pull-*")
    size = partial.stat().st_size
    assert 0 < size < entry.size
    aws.fail()
    assert "pulled" in run(*arguments).stdout
    assert [item["range"] for item in blob_requests(aws, "GET")] == [f"bytes={size}-"]
    mar.verify(entry, there)
    assert list(there.glob(".pull-*")) == []


def test_a_pull_killed_before_the_index_changed_downloads_nothing_again(aws: Aws, tmp_path: Path) -> None:
    entry = make(tmp_path / "here")
    store = open_store(aws.store)
    store.push(entry, tmp_path / "here")
    store.pull("chest", None, tmp_path / "there")
    model_store.write(tmp_path / "there", model_store.Index())
    aws.fail()
    assert store.pull("chest", None, tmp_path / "there").archive == entry
    assert blob_requests(aws, "GET") == []
    assert model_store.read(tmp_path / "there").archives == (entry,)
