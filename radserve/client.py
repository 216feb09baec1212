"""The client: images to predictions over HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from radserve import response, retry
from radserve.errors import NotAnAnswer, Refused, WrongCall
from radserve.prediction import Asked, Prediction, Readiness, Refusal, parse, parse_several

TIMEOUT: Final = httpx.Timeout(connect=5.0, read=60.0, write=60.0, pool=60.0)
"""Seconds: to connect, between two pieces of an answer, between two of a request, for a free connection."""

_SEGMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_MOST_IMAGES: Final = 64
_MOST_BYTES: Final = 32 * 1024 * 1024
"""What a server reads in one request unless it is configured otherwise (`handlers.body.BodyLimits`)."""


class Client:
    """Asks one server; may be shared by threads.

    A prediction changes nothing on the server, so a request is repeated where that is sure to help and
    harms nobody: when the connection is refused, takes too long to open or breaks off, and after 429, 502 and 503.
    The pauses double from attempt to attempt, are scattered, and honour Retry-After. A *read* time-out is not retried:
    the server may still be working on the request, and a second one would only queue behind it. Raise
    the time-out instead.

    An answer counts only if it is the documented one, names the model that was asked, and carries the sha256
    of the image that was sent; everything else raises.

    Parameters
    ----------
    url
        Base URL of the inference API or of the front before it.
    timeout
        Seconds to wait for an answer, or every time-out apart as `httpx.Timeout`.
    retries
        Most repetitions of one request; 0 for none.
    key
        Sent as `Authorization: Bearer KEY`, for a front that asks for one.
    max_bytes
        Longest image that is read and sent; a longer one is refused here, as 413.

    Raises
    ------
    WrongCall
        If the URL is none, or another argument is out of range.

    Examples
    --------
    >>> with Client("http://127.0.0.1:8080") as client:  # doctest: +SKIP
    ...     client.predict("chest-xray-cnn", Path("film.jpg")).label
    'normal'
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        *,
        timeout: float | httpx.Timeout = TIMEOUT,
        retries: int = 3,
        key: str | None = None,
        max_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        if retries < 0:
            raise WrongCall(f"retries has value {retries}; it must be 0 or more.")
        self.url = url
        self._retries = retries
        self.max_bytes = max_bytes
        self._http = httpx.Client(
            base_url=_base(url),
            timeout=_timeout(timeout),
            headers={"Accept": "application/json"} | _authorization(key),
            # Films for this machine must not travel by way of a proxy that the environment names.
            trust_env=_base(url).host not in _LOOPBACK,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def predict(self, name: str, image: bytes | Path, version: str | None = None) -> Prediction:
        """Ask for one image.

        Parameters
        ----------
        name, version
            The model; without a version, the server's default one.
        image
            The encoded image, or the file that holds it.

        Raises
        ------
        Refused
            The image, or the request, cannot be answered (4xx); the detail says why.
        ServerFailed
            The server could not answer (5xx), also after the retries.
        Unreachable, TimedOut
            Nobody took the request, or answered it in time.
        NotAnAnswer
            What came back cannot be relied on.
        WrongCall
            The name or version cannot be one.
        OSError
            The file cannot be read.
        """
        path = _path(name, version)
        content = self._read(image)
        document = self._post(path, content, "application/octet-stream")
        return parse(document, Asked(name, version, hashlib.sha256(content).hexdigest()))

    def predict_many(
        self, name: str, images: Iterable[bytes | Path], version: str | None = None
    ) -> list[Prediction | Refusal]:
        """Ask for several images with as few requests as the server's usual limits allow.

        Returns
        -------
        list
            One entry an image, in order; a `Refusal` stands in the place of an image that cannot be answered.

        Raises
        ------
        Refused, ServerFailed, Unreachable, TimedOut, NotAnAnswer, WrongCall, OSError
            See `predict`, where it is not one image's fault.
        """
        path = _path(name, version)
        answers: list[Prediction | Refusal] = []
        for batch in _batches(self._read(image) for image in images):
            answers += self._predict_batch(path, batch, [Asked(name, version, _sha256(image)) for image in batch])
        return answers

    def _predict_batch(self, path: str, batch: list[bytes], asked: list[Asked]) -> list[Prediction | Refusal]:
        instances = [{"b64": base64.b64encode(image).decode()} for image in batch]
        content = json.dumps({"instances": instances}).encode()
        try:
            document = self._post(path, content, "application/json")
        except Refused as error:
            if len(batch) == 1 and error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                return [Refusal(error.status, error.title, error.detail)]
            raise
        return parse_several(document, asked)

    def ready(self, health_url: str) -> Readiness:
        """Ask the supervisor whether requests will be answered; not repeated.

        Parameters
        ----------
        health_url
            Where `radserve serve --health-port` listens, with or without `/ready`.

        Raises
        ------
        Unreachable, TimedOut, NotAnAnswer, WrongCall
            If it does not say.
        """
        base = _base(health_url)
        url = base if base.path.endswith("/ready") else base.join("/ready")
        try:
            answer = self._http.get(url)
        except httpx.HTTPError as error:
            raise response.failure(error, health_url) from error
        match answer.status_code, response.parse(answer):
            case 200 | 503, {"state": str(state), "detail": str(detail)}:
                return Readiness(answer.is_success, state, detail)
        raise NotAnAnswer(f"{url} is not RadServe's /ready; name the port that --health-port gave it.")

    def _read(self, image: bytes | Path) -> bytes:
        if isinstance(image, Path):
            with image.open("rb") as file:
                image = file.read(self.max_bytes + 1)
        if len(image) > self.max_bytes:
            raise Refused(
                413, "Content too large", f"The image has more than the {self.max_bytes} bytes that are sent."
            )
        return image

    def _post(self, path: str, content: bytes, media_type: str) -> Any:
        attempt = 0
        while True:
            wanted = None
            left = attempt < self._retries
            try:
                answer = self._http.post(path, content=content, headers={"Content-Type": media_type})
            except httpx.HTTPError as error:
                if not (left and retry.safe(error)):
                    raise response.failure(error, self.url) from error
            else:
                wanted = retry.after(answer.headers.get("Retry-After"))
                if not (left and answer.status_code in retry.STATUSES and (wanted or 0) <= retry.LONGEST):
                    return response.document(answer)
            time.sleep(retry.pause(attempt, wanted))
            attempt += 1


def _batches(images: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for image in images:
        if batch and (len(batch) == _MOST_IMAGES or size + len(image) > _MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(image)
        size += len(image)
    if batch:
        yield batch


def _path(name: str, version: str | None) -> str:
    for key, value in (("name", name), ("version", version)):
        if value is not None and not _SEGMENT.fullmatch(value):
            raise WrongCall(f"{key} has value {value!r}; it may hold letters, digits, '.', '_' and '-' only.")
    return f"predictions/{name}" + (f"/{version}" if version is not None else "")


def _base(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise WrongCall(f"url has value {url!r}: {error}.") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise WrongCall(f"url has value {url!r}; it must begin with http:// or https:// and name a host.")
    return parsed


def _timeout(timeout: float | httpx.Timeout) -> httpx.Timeout:
    if isinstance(timeout, httpx.Timeout):
        return timeout
    if not timeout > 0:
        raise WrongCall(f"timeout has value {timeout}; it must be above 0 seconds.")
    return httpx.Timeout(connect=TIMEOUT.connect, read=timeout, write=TIMEOUT.write, pool=TIMEOUT.pool)


def _authorization(key: str | None) -> dict[str, str]:
    if key is None:
        return {}
    if not key.isascii() or not key.isprintable() or not key.strip():
        raise WrongCall("key holds nothing, or characters that no header may hold.")
    return {"Authorization": f"Bearer {key}"}


def _sha256(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()
