"""A store behind a web server, which can only be read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import urlsplit, urlunsplit

import httpx

from radserve.client import retry
from radserve.errors import CorruptDataError, InterruptedTransferError, MissingBlobError, StoreError
from radserve.store import repeat
from radserve.store.backend import BLOBS, INDEX, LARGEST_INDEX, Blob, Document, Download, Leftover, Progress

_TIMEOUT: Final = httpx.Timeout(connect=5.0, read=60.0, write=60.0, pool=60.0)
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_NOT_NOW: Final = retry.STATUSES | {500, 504}
"""What is read may be asked for again, also after answers that leave open what was done."""


class Web:
    """A store as `https://` shows it; `http://` on this machine only, also where it redirects to."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        user = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        self.name = urlunsplit(user).rstrip("/")
        self._base = url.rstrip("/")
        _require_safe(httpx.URL(url), self.name)

    def _client(self) -> httpx.Client:
        """Return a client for one request: there are few, and none is left open."""
        return httpx.Client(
            timeout=_TIMEOUT,
            follow_redirects=True,
            # Compressed on the way, a blob could not be gone on with.
            headers={"Accept-Encoding": "identity"},
            event_hooks={"request": [lambda request: _require_safe(request.url, self.name)]},
            trust_env=httpx.URL(self._base).host not in _LOOPBACK,
        )

    def read_index(self) -> Document | None:
        """Return the index."""
        return repeat.until_whole(self._read_index)

    def _read_index(self) -> Document | None:
        with self._get(INDEX, {}) as answer:
            if answer.status_code == httpx.codes.NOT_FOUND:
                return None
            data = b""
            for chunk in answer.iter_bytes():
                data += chunk
                if len(data) > LARGEST_INDEX:
                    raise StoreError(f"{self.name}/{INDEX}: has more than {LARGEST_INDEX} bytes; no index has.")
            return Document(data, answer.headers.get("ETag", ""))

    def write_index(self, data: bytes, tag: str | None) -> None:  # noqa: ARG002 - what the protocol asks
        """Refuse."""
        self._refuse()

    def stat(self, sha256: str) -> Blob | None:  # noqa: ARG002
        """Refuse: only who changes a store asks."""
        self._refuse()

    def holds(self, sha256: str, size: int) -> bool:  # noqa: ARG002
        """Refuse: only who changes a store asks."""
        self._refuse()

    def put(self, sha256: str, source: Path, progress: Progress) -> None:  # noqa: ARG002
        """Refuse."""
        self._refuse()

    @contextmanager
    def open(self, sha256: str, start: int, tag: str | None) -> Iterator[Download]:
        """Begin to read a blob; a server that knows no ranges begins at 0."""
        path = f"{BLOBS}/{sha256}"
        headers = {"Range": f"bytes={start}-"} if start else {}
        # A weak tag says that two are alike, not that they are the same bytes (RFC 9110, section 8.8.1).
        if tag and not tag.startswith("W/"):
            headers["If-Match"] = tag
        with self._get(path, headers) as answer:
            if answer.status_code == httpx.codes.NOT_FOUND:
                raise MissingBlobError(f"{self.name}/{path}: missing.")
            if answer.status_code in (httpx.codes.PRECONDITION_FAILED, httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE):
                raise CorruptDataError(f"{self.name}/{path}: was replaced while it was read, or is too short.")
            begins, size = _range(answer, start, f"{self.name}/{path}")
            yield Download(size, begins, answer.headers.get("ETag"), answer.iter_raw())

    def blobs(self) -> Iterator[Blob]:
        """Refuse: only who changes a store asks."""
        self._refuse()

    def delete(self, sha256: str) -> None:  # noqa: ARG002
        """Refuse."""
        self._refuse()

    def leftovers(self) -> Iterator[Leftover]:
        """Refuse: only who changes a store asks."""
        self._refuse()

    def discard(self, leftover: Leftover) -> None:  # noqa: ARG002
        """Refuse."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise StoreError(f"{self.name}: a store behind a web server is read only; name its folder or s3:// address.")

    @contextmanager
    def _get(self, path: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """Ask until an answer comes that a repetition would not better."""
        url = f"{self._base}/{path}"
        for attempt in range(repeat.ATTEMPTS):
            last = attempt == repeat.ATTEMPTS - 1
            wanted = None
            try:
                with self._client() as client, client.stream("GET", url, headers=headers) as answer:
                    wanted = retry.after(answer.headers.get("Retry-After"))
                    if last or answer.status_code not in _NOT_NOW or (wanted or 0) > retry.LONGEST:
                        self._check(answer, path)
                        with _broken_off(f"{self.name}/{path}"):
                            yield answer
                        return
            except httpx.TooManyRedirects as error:
                raise StoreError(f"{self.name}/{path}: redirects for ever.") from error
            except httpx.TransportError as error:
                if last:
                    raise StoreError(f"{self.name}: nobody answers: {str(error) or type(error).__name__}.") from error
            time.sleep(retry.pause(attempt, wanted))

    def _check(self, answer: httpx.Response, path: str) -> None:
        status = answer.status_code
        known = (httpx.codes.NOT_FOUND, httpx.codes.PRECONDITION_FAILED, httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE)
        if answer.is_success or status in known:
            return
        hint = ""
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            hint = " If it asks for a password, write https://USER:PASSWORD@HOST, better as RADSERVE_STORE."
        raise StoreError(f"{self.name}/{path}: the server answers {status} {answer.reason_phrase}.{hint}")


@contextmanager
def _broken_off(name: str) -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise InterruptedTransferError(f"{name}: {str(error) or type(error).__name__}") from error


def _range(answer: httpx.Response, start: int, name: str) -> tuple[int, int]:
    """Return where an answer begins, and the size of the whole."""
    try:
        if answer.status_code == httpx.codes.PARTIAL_CONTENT:
            return start, int(answer.headers["Content-Range"].rpartition("/")[2])
        return 0, int(answer.headers["Content-Length"])
    except (KeyError, ValueError) as error:
        raise CorruptDataError(f"{name}: the server does not say how long it is.") from error


def _require_safe(url: httpx.URL, name: str) -> None:
    if url.scheme != "https" and not (url.scheme == "http" and url.host in _LOOPBACK):
        raise StoreError(
            f"{name}: {url.scheme}://{url.host} is not encrypted, so others could read along; use https://."
        )
