"""HTTP client for predictions, explanations and the history of a gateway."""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args

import httpx

from radserve.client import response, validation
from radserve.client.api_detector import Api, ApiDetector
from radserve.client.transport import TIMEOUT, Transport, http_client, parse_url
from radserve.errors import InvalidCallError, InvalidResponseError, RejectedRequestError
from radserve.schema.domain import Repair
from radserve.schema.explanation import Explanation
from radserve.schema.history import HistoryEntry, HistoryPage
from radserve.schema.prediction import Image, Prediction
from radserve.schema.problem import RejectedImage
from radserve.schema.requested_image import RequestedImage
from radserve.schema.segmentation import Segmentation, Series

Kind = Literal["predictions", "explanations"]
View = Literal["mask", "map", "overlay"]
Assurances = Mapping[str, str | float]

_JSON: Final = "application/json"
_BINARY: Final = "application/octet-stream"
_SEGMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ID_CHARACTERS: Final = frozenset("0123456789abcdef-")
_PAGE_SIZE: Final = "200"
_MAX_IMAGES: Final = 64
_MAX_BYTES: Final = 32 * 1024 * 1024  # default limits of a server for one request (`handlers.request_body.BodyLimits`)


@dataclass(frozen=True)
class Readiness:
    """Whether requests would be answered, as a supervisor or gateway reports it; false unless `ready`."""

    ready: bool
    state: str
    detail: str

    def __bool__(self) -> bool:
        return self.ready


class Client:
    """Client of one server or gateway; can be shared by threads.

    A prediction changes nothing on the server, so a request is repeated after a refused or broken connection, a
    connect timeout, and the statuses 429, 502 and 503. The pauses double, with jitter; Retry-After is honoured. A
    *read* timeout is not repeated: the server may still be working on the request. Increase the timeout instead.

    `version` None is the server's default version. An image is its encoded bytes or a path. `assurances` state what an
    image does not state itself, such as `{"age": 5, "view": "PA"}`; the server checks them like attributes of DICOM.
    `repair` has the server turn or invert the image before the analysis; result and pictures are of the repaired image.
    `prevalence` is the share of positive images to assume in the probabilities; it does not change `positive`.

    Parameters
    ----------
    url
        Base URL of the inference API, of the proxy, or of a gateway.
    timeout
        Seconds to wait for a response, or an `httpx.Timeout`.
    retries
        Maximum number of repetitions of a request.
    key
        API key, sent as `Authorization: Bearer KEY`.
    max_bytes
        Maximum size of an image; a larger one is rejected with status 413 before it is sent.
    cacert
        PEM file of the authority that signed the certificate, if the system does not trust it.
    api
        Paths to use. `auto` requests /live before the first request to detect a gateway. Use `gateway` for a URL where
        nginx serves both a gateway and a server, whose /live is that of the server.

    Raises
    ------
    InvalidCallError
        By every method: an argument is invalid.
    RejectedRequestError
        By every request: the server rejects the image or the request (4xx); the detail says why.
    ServerFailedError
        The server fails (5xx), also after retries.
    UnreachableError, ResponseTimeoutError
        No response arrives, or not in time.
    InvalidResponseError
        The response is malformed, inconsistent, or about another model or image.

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
        cacert: Path | None = None,
        api: Api = "auto",
    ) -> None:
        self.url = url
        self.max_bytes = max_bytes
        if retries < 0:
            raise InvalidCallError(f"retries has value {retries}; it must be 0 or more.")
        self._transport = Transport(http_client(url, timeout, key, cacert), url, retries)
        self._api = ApiDetector(self._transport, api)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def predict(
        self,
        name: str,
        image: bytes | Path,
        version: str | None = None,
        *,
        assurances: Assurances | None = None,
        prevalence: float | None = None,
        repair: Repair | None = None,
    ) -> Prediction | Segmentation:
        """Send one image; the class of the result depends on the model's task, which `.task` names."""
        content, path = self._read(image), self._path("predictions", name, version)
        document = self._post(path, content, assurances=_with_prevalence(assurances, prevalence), repair=repair)
        return validation.result(document, RequestedImage(name, version, _sha256(content), repair))

    def explain(
        self,
        name: str,
        image: bytes | Path,
        version: str | None = None,
        *,
        assurances: Assurances | None = None,
        prevalence: float | None = None,
        repair: Repair | None = None,
    ) -> Explanation:
        """Send one image to a classifier, and return the result with a heat map of what influenced it.

        Raises RejectedRequestError with status 404 if the model is not a classifier.
        """
        content, path = self._read(image), self._path("explanations", name, version)
        document = self._post(path, content, assurances=_with_prevalence(assurances, prevalence), repair=repair)
        return validation.explanation(document, RequestedImage(name, version, _sha256(content), repair))

    def picture(
        self,
        name: str,
        image: bytes | Path,
        version: str | None = None,
        *,
        of: Kind = "predictions",
        view: View = "overlay",
        size: Image | None = None,
        assurances: Assurances | None = None,
        repair: Repair | None = None,
    ) -> bytes:
        """Return a result as a picture (PNG) for display; it carries neither label nor model.

        Raises RejectedRequestError with status 406 if the model has no such view.

        Parameters
        ----------
        version
            Name the version of the result that the picture accompanies: the default version may change in between.
        of
            `predictions` for a mask, `explanations` for a heat map.
        view
            `mask` or `map` alone, or `overlay` for the image with it.
        size
            Image of a result; a picture with another size is invalid.
        """
        content, path = self._read(image), self._path(of, name, version)
        headers = {"Content-Type": _BINARY, "Accept": f"image/png;view={view}"} | _header(assurances)
        reply = self._transport.request("POST", path, content=content, headers=headers, params=_query(repair))
        return response.picture(reply, size)

    def predict_many(
        self,
        name: str,
        images: Iterable[bytes | Path],
        version: str | None = None,
        *,
        assurances: Assurances | None = None,
        prevalence: float | None = None,
        repair: Repair | None = None,
    ) -> list[Prediction | Segmentation | RejectedImage]:
        """Send several images, in as few requests as the default limits of a server allow.

        Returns one entry per image, in order; `RejectedImage` for an image that the server rejects.
        """
        stated = _with_prevalence(assurances, prevalence)
        results: list[Prediction | Segmentation | RejectedImage] = []
        for batch in _batches(self._read(image) for image in images):
            requests = [RequestedImage(name, version, _sha256(image), repair) for image in batch]
            try:
                document = self._post_instances(self._path("predictions", name, version), batch, stated, repair)
                results += validation.result_list(document, requests)
            except RejectedRequestError as error:
                if len(batch) > 1 or error.status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                    raise
                results.append(RejectedImage(status=error.status, title=error.title, detail=error.detail))
        return results

    def predict_series(
        self,
        name: str,
        slices: Iterable[bytes | Path],
        version: str | None = None,
        *,
        assurances: Assurances | None = None,
        repair: Repair | None = None,
    ) -> Series:
        """Send the slices of one examination to a segmentation model, and return masks and volume.

        The slices are sent in one request; the server rejects more than its limits allow.
        """
        images = [self._read(image) for image in slices]
        if not images:
            raise InvalidCallError("slices is empty; a volume needs at least one slice.")
        requests = [RequestedImage(name, version, _sha256(image), repair) for image in images]
        path = self._path("predictions", name, version)
        return validation.series(self._post_instances(path, images, assurances, repair), requests)

    def results(
        self,
        *,
        model: str | None = None,
        label: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        text: str | None = None,
    ) -> Iterator[HistoryEntry]:
        """Iterate over the history of a gateway, newest first; pages are requested on demand.

        Raises RejectedRequestError with status 404 if nothing is stored, and InvalidCallError without a gateway.

        Parameters
        ----------
        since, until
            Start (inclusive) and end (exclusive), with time zones.
        text
            Part of the file name, of the id or of the image's checksum.
        """
        self._require_gateway()
        filters = {"model": model, "label": label, "since": since, "until": until, "text": text}
        return self._pages({name: _filter(name, value) for name, value in filters.items() if value is not None})

    def _pages(self, query: dict[str, str]) -> Iterator[HistoryEntry]:
        cursor: str | None = ""
        while cursor is not None:
            params = query | {"limit": _PAGE_SIZE} | ({"cursor": cursor} if cursor else {})
            page = validation.validate(HistoryPage, self._document("GET", "api/results", params=params))
            yield from page.results
            cursor = page.next

    def result(self, identifier: str) -> HistoryEntry:
        """Return one result from the history of a gateway; raises as `results` does."""
        return validation.validate(HistoryEntry, self._document("GET", self._result_path(identifier)))

    def delete(self, identifier: str) -> None:
        """Delete one result from the history of a gateway; raises as `results` does."""
        deleted = self._transport.request("DELETE", self._result_path(identifier), repeat=False)
        if deleted.status_code != HTTPStatus.NO_CONTENT:
            response.document(deleted)  # raises for 4xx and 5xx
            raise InvalidResponseError(f"The gateway answered {deleted.status_code} instead of 204; check the URL.")

    def _result_path(self, identifier: str) -> str:
        self._require_gateway()
        if not identifier or not set(identifier) <= _ID_CHARACTERS:
            raise InvalidCallError(f"id has value {identifier!r}; use the `id` of a prediction or history entry.")
        return f"api/results/{identifier}"

    def ready(self, health_url: str | None = None) -> Readiness:
        """Return whether requests would be answered; not repeated.

        `health_url` is that of `radserve serve --health-port`, with or without `/ready`; not needed for a gateway or
        proxy.
        """
        url = parse_url(health_url or f"{self.url.rstrip('/')}/ready")
        url = url if url.path.endswith("/ready") else url.join("/ready")
        reply = self._transport.request("GET", url, repeat=False)
        match reply.status_code, response.parse(reply):
            case 200 | 503, {"state": str(state), "detail": str(detail)}:
                return Readiness(reply.is_success, state, detail)
        raise InvalidResponseError(f"{url} is not RadServe's /ready; use the port of --health-port.")

    def _path(self, kind: Kind, name: str, version: str | None) -> str:
        for key, value in (("name", name), ("version", version)):
            if value is not None and not _SEGMENT.fullmatch(value):
                raise InvalidCallError(f"{key} has value {value!r}; use letters, digits, '.', '_' and '-' only.")
        return f"{self._api.prefix}{kind}/{name}" + (f"/{version}" if version is not None else "")

    def _require_gateway(self) -> None:
        if not self._api.is_gateway:
            raise InvalidCallError(
                f"{self.url} is not a gateway, and only a gateway stores results. Start one with "
                "'scripts/serve --with-front'."
            )

    def _read(self, image: bytes | Path) -> bytes:
        if isinstance(image, Path):
            with image.open("rb") as file:
                image = file.read(self.max_bytes + 1)
        if len(image) > self.max_bytes:
            raise RejectedRequestError(
                413, "Content too large", f"The image has more than {self.max_bytes} bytes (max_bytes of the client)."
            )
        return image

    def _post(
        self,
        path: str,
        content: bytes,
        media_type: str = _BINARY,
        assurances: Assurances | None = None,
        repair: Repair | None = None,
    ) -> Any:
        headers = {"Content-Type": media_type} | _header(assurances)
        return self._document("POST", path, content=content, headers=headers, params=_query(repair))

    def _document(self, method: str, path: str, **options: Any) -> Any:
        return response.document(self._transport.request(method, path, **options))

    def _post_instances(
        self, path: str, images: list[bytes], assurances: Assurances | None, repair: Repair | None
    ) -> Any:
        instances = [{"b64": base64.b64encode(image).decode()} for image in images]
        return self._post(path, json.dumps({"instances": instances}).encode(), _JSON, assurances, repair)


def _batches(images: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for image in images:
        if batch and (len(batch) == _MAX_IMAGES or size + len(image) > _MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(image)
        size += len(image)
    if batch:
        yield batch


def _with_prevalence(assurances: Assurances | None, prevalence: float | None) -> Assurances | None:
    """Add the prevalence, which the server reads from the same header field."""
    return assurances if prevalence is None else {**(assurances or {}), "prevalence": f"{prevalence:.6f}"}


def _header(assurances: Assurances | None) -> dict[str, str]:
    """Return the header field of assurances, if there are any."""
    if not assurances:
        return {}
    text = ", ".join(f"{name}={value}" for name, value in assurances.items())
    if not (text.isascii() and text.isprintable()) or text.count("=") != len(assurances):
        raise InvalidCallError("assurances have invalid characters; use names and values such as age and 5.")
    return {"X-Assurances": text}


def _query(repair: Repair | None) -> dict[str, str]:
    """Return the query of a repair, if there is one."""
    if repair is None:
        return {}
    if repair not in get_args(Repair):
        raise InvalidCallError(f"repair has value {repair!r}; use {', '.join(get_args(Repair))}, or None.")
    return {"repair": repair}


def _filter(name: str, value: str | datetime) -> str:
    if isinstance(value, str):
        return value
    if value.tzinfo is None:
        raise InvalidCallError(f"{name} has value {value}, which has no time zone.")
    return value.isoformat()


def _sha256(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()
