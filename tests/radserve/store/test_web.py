"""Archive stores on web servers, read-only."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from radserve.build import mar
from radserve.build.model_store import Entry
from radserve.errors import CorruptDataError, StoreError
from radserve.store import object_storage, open_store
from tests.authority import Authority
from tests.radserve.store.archives import make
from tests.radserve.store.conftest import Pair
from tests.radserve.store.web_server import WebServer, serve

pytestmark = pytest.mark.usefixtures("fast_retries")


@pytest.fixture
def entry(tmp_path: Path, pair: Pair) -> Entry:
    """Publish an archive in a signed store."""
    entry = make(tmp_path / "here", size=200_000)
    open_store(str(tmp_path / "store"), signing_key=pair.private).push(entry, tmp_path / "here")
    return entry


@pytest.fixture
def server(entry: Entry, tmp_path: Path) -> Iterator[WebServer]:
    with serve(tmp_path / "store") as server:
        yield server


@pytest.fixture
def url(server: WebServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def ranges(server: WebServer) -> list[str]:
    """Return the requested ranges of blobs."""
    return [requested for path, requested in server.requests if "blobs" in path]


def test_pull_over_tls(
    entry: Entry, authority: Authority, tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(tmp_path / "store", authority.issue("store")) as server:
        url = f"https://localhost:{server.server_port}"
        with pytest.raises(StoreError, match="InvalidCertificate"):
            open_store(url).entries()
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.root))
        store = open_store(url, public_keys=pair.public)
        assert store.pull("chest", None, tmp_path / "there").archive == entry
        assert store.verify().failures == ()
    mar.verify(entry, tmp_path / "there")


def test_a_redirect_from_tls_to_an_unencrypted_url_is_rejected(
    entry: Entry, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.root))
    with serve(tmp_path / "store") as plain, serve(tmp_path / "store", authority.issue("store")) as server:
        server.fault = lambda path: f"http://127.0.0.1:{plain.server_port}{path}"
        with pytest.raises(StoreError, match="redirects to a URL that is not encrypted"):
            open_store(f"https://localhost:{server.server_port}").entries()
        assert plain.requests == []


def test_a_password_is_sent_but_not_shown(server: WebServer, url: str) -> None:
    store = open_store(url.replace("127.0.0.1", "user:sec%20ret@127.0.0.1"))
    assert len(store.entries()) == 1
    assert server.authorizations == ["Basic dXNlcjpzZWMgcmV0"]  # user:sec ret
    server.fault = lambda _: 401
    with pytest.raises(StoreError, match="401 Unauthorized") as caught:
        store.entries()
    error: BaseException | None = caught.value
    while error is not None:
        assert "sec" not in str(error)
        error = error.__cause__


def test_an_interrupted_download_continues(server: WebServer, url: str, entry: Entry, tmp_path: Path) -> None:
    server.fail(None, "cut", "cut")
    open_store(url).pull("chest", None, tmp_path / "there")
    half = entry.size // 2
    starts = [requested.partition("-")[0] for requested in ranges(server)]
    assert starts == ["", f"bytes={half}", f"bytes={half + (entry.size - half) // 2}"]
    mar.verify(entry, tmp_path / "there")


def test_without_ranges_an_interrupted_download_starts_again(
    server: WebServer, url: str, entry: Entry, tmp_path: Path
) -> None:
    server.ranges = False
    server.fail(None, "cut")
    open_store(url).pull("chest", None, tmp_path / "there")
    assert ranges(server)[-1] == ""
    mar.verify(entry, tmp_path / "there")


def test_temporary_failures_are_retried(server: WebServer, url: str, entry: Entry, tmp_path: Path) -> None:
    server.fail(503, None, 500, "cut", 502, "cut", 429)
    open_store(url).pull("chest", None, tmp_path / "there")
    mar.verify(entry, tmp_path / "there")


def test_a_failed_pull_keeps_its_bytes_and_the_next_one_continues(
    server: WebServer, url: str, entry: Entry, tmp_path: Path
) -> None:
    store = open_store(url)
    server.fault = lambda path: {0: None, 1: "cut"}.get(len(ranges(server)), 404) if "blobs" in path else None
    with pytest.raises(StoreError):
        store.pull("chest", None, tmp_path / "there")
    (partial,) = (tmp_path / "there").glob(".pull-*")
    size = partial.stat().st_size
    assert 0 < size <= entry.size // 2
    server.requests.clear()
    server.fail()
    store.pull("chest", None, tmp_path / "there")
    assert ranges(server) == [f"bytes={size}-"]


def test_a_blob_replaced_during_the_download_is_downloaded_again(
    server: WebServer, url: str, entry: Entry, tmp_path: Path
) -> None:
    blob = tmp_path / "store" / "blobs" / "sha256" / entry.sha256
    content = blob.read_bytes()
    blob.write_bytes(bytes(entry.size))

    def fault(path: str) -> str | None:
        if "blobs" not in path:
            return None
        if len(ranges(server)) == 2:
            blob.write_bytes(content)
        return "cut" if len(ranges(server)) == 1 else None

    server.fault = fault
    open_store(url).pull("chest", None, tmp_path / "there")
    mar.verify(entry, tmp_path / "there")


def test_a_blob_of_another_size_is_rejected(server: WebServer, url: str, entry: Entry, tmp_path: Path) -> None:
    (tmp_path / "store" / "blobs" / "sha256" / entry.sha256).write_bytes(b"short")
    with pytest.raises(CorruptDataError, match=f"5 bytes instead of {entry.size}"):
        open_store(url).pull("chest", None, tmp_path / "there")


@pytest.mark.parametrize("status", [401, 403, 410])
def test_permanent_failures_are_not_retried(server: WebServer, url: str, status: int) -> None:
    server.fault = lambda _: status
    with pytest.raises(StoreError, match=f"the server responds {status}"):
        open_store(url).entries()
    assert len(server.requests) == 1


def test_a_page_instead_of_an_index_is_rejected(server: WebServer, url: str, tmp_path: Path) -> None:
    (tmp_path / "store" / "index.json").write_text("<html>")
    with pytest.raises(StoreError, match="not the index of an archive store"):
        open_store(url).entries()


def test_a_huge_index_is_not_read(server: WebServer, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_storage, "MAX_INDEX_SIZE", 10)
    with pytest.raises(StoreError, match="an index has at most 10 bytes"):
        open_store(url).entries()


def test_a_web_server_is_read_only(url: str, tmp_path: Path, pair: Pair) -> None:
    store = open_store(url, signing_key=pair.private)
    archive = make(tmp_path / "here", version="2.0.0")
    for change in (
        lambda: store.push(archive, tmp_path / "here"),
        lambda: store.collect_garbage(timedelta(0)),
        store.sign,
    ):
        with pytest.raises(StoreError, match="read-only"):
            change()


def test_an_unreachable_server_is_reported() -> None:
    with pytest.raises(StoreError, match="Connection refused"):
        open_store("http://127.0.0.1:9").entries()


def test_a_download_that_keeps_failing_is_aborted(server: WebServer, url: str, entry: Entry, tmp_path: Path) -> None:
    server.fault = lambda path: ("cut" if len(ranges(server)) < 4 else 500) if "blobs" in path else None
    with pytest.raises(StoreError):
        open_store(url).pull("chest", None, tmp_path / "there")
    (partial,) = (tmp_path / "there").glob(".pull-*")
    assert 0 < partial.stat().st_size < entry.size
