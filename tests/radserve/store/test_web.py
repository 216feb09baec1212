"""A store behind a web server, which can only be read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from radserve.build import mar
from radserve.build.model_store import Entry
from radserve.errors import CorruptDataError, StoreError
from radserve.store import open_store
from tests.authority import Authority
from tests.radserve.store.archives import make
from tests.radserve.store.conftest import Pair
from tests.radserve.store.web_server import WebServer, shown


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radserve.store.web.time.sleep", lambda _: None)


@pytest.fixture
def entry(tmp_path: Path, pair: Pair) -> Entry:
    """An archive in a signed store."""
    made = make(tmp_path / "here", size=200_000)
    open_store(str(tmp_path / "store"), signing_key=pair.private).push(made, tmp_path / "here")
    return made


@pytest.fixture
def server(entry: Entry, tmp_path: Path) -> Iterator[WebServer]:
    with shown(tmp_path / "store") as started:
        yield started


@pytest.fixture
def url(server: WebServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def ranges(server: WebServer) -> list[str]:
    """Return the ranges that were asked for of blobs."""
    return [asked for path, asked in server.requests if "blobs" in path]


def test_an_archive_is_pulled_over_tls(
    entry: Entry, authority: Authority, tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.root))
    # On loopback nothing of the environment counts, so the name must be one that is not known as such.
    monkeypatch.setattr("radserve.store.web._LOOPBACK", ())
    with shown(tmp_path / "store", authority.issue("store")) as server:
        store = open_store(f"https://localhost:{server.server_port}", public_keys=pair.public)
        assert store.pull("chest", None, tmp_path / "there") == entry
        assert store.verify().wrong == ()
    mar.verify(entry, tmp_path / "there")


def test_what_breaks_off_is_gone_on_with(
    server: WebServer, url: str, entry: Entry, tmp_path: Path, pauses: list[float]
) -> None:
    server.say(None, "cut", "cut")
    open_store(url).pull("chest", None, tmp_path / "there")
    half = entry.size // 2
    assert ranges(server) == ["", f"bytes={half}-", f"bytes={half + (entry.size - half) // 2}-"]
    mar.verify(entry, tmp_path / "there")


def test_a_server_that_knows_no_ranges_begins_anew(
    server: WebServer, url: str, entry: Entry, tmp_path: Path, pauses: list[float]
) -> None:
    server.ranges = False
    server.say(None, "cut")
    open_store(url).pull("chest", None, tmp_path / "there")
    assert ranges(server) == ["", f"bytes={entry.size // 2}-"]
    mar.verify(entry, tmp_path / "there")


def test_every_second_request_may_fail(
    server: WebServer, url: str, entry: Entry, tmp_path: Path, pauses: list[float]
) -> None:
    server.say(503, None, 500, "cut", 502, "cut", 429)
    open_store(url).pull("chest", None, tmp_path / "there")
    mar.verify(entry, tmp_path / "there")


def test_what_came_before_a_failure_is_kept(
    server: WebServer, url: str, entry: Entry, tmp_path: Path, pauses: list[float]
) -> None:
    store = open_store(url)
    server.say(None, "cut", 404)
    with pytest.raises(StoreError, match="missing"):
        store.pull("chest", None, tmp_path / "there")
    (partial,) = (tmp_path / "there").glob(".pull-*")
    assert partial.stat().st_size == entry.size // 2
    server.requests.clear()
    store.pull("chest", None, tmp_path / "there")
    assert ranges(server) == [f"bytes={entry.size // 2}-"]


def test_a_blob_that_is_replaced_while_it_is_read_is_fetched_anew(
    server: WebServer, url: str, entry: Entry, tmp_path: Path, pauses: list[float]
) -> None:
    blob = tmp_path / "store" / "blobs" / "sha256" / entry.sha256
    right = blob.read_bytes()
    blob.write_bytes(bytes(entry.size))

    def fault(path: str) -> str | None:
        if "blobs" not in path:
            return None
        if len(ranges(server)) == 2:
            blob.write_bytes(right)
        return "cut" if len(ranges(server)) == 1 else None

    server.fault = fault
    open_store(url).pull("chest", None, tmp_path / "there")
    assert ranges(server) == ["", f"bytes={entry.size // 2}-", ""]
    mar.verify(entry, tmp_path / "there")


def test_a_blob_of_another_size_is_refused(server: WebServer, url: str, entry: Entry, tmp_path: Path) -> None:
    (tmp_path / "store" / "blobs" / "sha256" / entry.sha256).write_bytes(b"short")
    with pytest.raises(CorruptDataError, match=f"has 5 bytes instead of {entry.size}"):
        open_store(url).pull("chest", None, tmp_path / "there")


@pytest.mark.parametrize("status", [401, 403, 410])
def test_what_is_refused_is_said_and_not_asked_again(server: WebServer, url: str, status: int) -> None:
    server.fault = lambda _: status
    with pytest.raises(StoreError, match=f"the server answers {status}"):
        open_store(url).entries()
    assert len(server.requests) == 1


def test_a_redirection_to_where_others_read_along_is_not_followed(server: WebServer, url: str) -> None:
    server.say("http://example.org/index.json")
    with pytest.raises(StoreError, match=r"http://example\.org is not encrypted"):
        open_store(url).entries()


def test_a_page_that_is_no_index_is_said(server: WebServer, url: str, tmp_path: Path) -> None:
    (tmp_path / "store" / "index.json").write_text("<html>")
    with pytest.raises(StoreError, match="is no index of an archive store"):
        open_store(url).entries()


def test_an_index_without_end_is_not_read_into_memory(
    server: WebServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radserve.store.web.LARGEST_INDEX", 10)
    with pytest.raises(StoreError, match="more than 10 bytes"):
        open_store(url).entries()


def test_it_cannot_be_changed(url: str, tmp_path: Path, pair: Pair) -> None:
    store = open_store(url, signing_key=pair.private)
    new = make(tmp_path / "here", version="2.0.0")
    for change in (
        lambda: store.push(new, tmp_path / "here"),
        lambda: store.collect(timedelta(0)),
        store.sign,
    ):
        with pytest.raises(StoreError, match="read only"):
            change()


def test_nobody_there_is_said() -> None:
    with pytest.raises(StoreError, match="nobody answers"):
        open_store("http://127.0.0.1:9").entries()


def test_a_connection_that_breaks_off_without_end_is_given_up(
    server: WebServer, url: str, entry: Entry, tmp_path: Path, pauses: list[float]
) -> None:
    server.fault = lambda path: "cut" if "blobs" in path else None
    with pytest.raises(StoreError, match="what has come is kept"):
        open_store(url).pull("chest", None, tmp_path / "there")
    (partial,) = (tmp_path / "there").glob(".pull-*")
    assert 0 < partial.stat().st_size < entry.size
