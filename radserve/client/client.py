"""The client: images to answers over HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import httpx

from radserve.client import history, response, validation
from radserve.client.dialect import Api, Interface
from radserve.client.transport import TIMEOUT, Transport, base
from radserve.client.validation import RequestedImage
from radserve.errors import InvalidCallError, InvalidResponseError, RejectedRequestError
from radserve.schema.explanation import Explanation
from radserve.schema.history import HistoryEntry
from radserve.schema.prediction import Image, Prediction
from radserve.schema.problem import RejectedImage
from radserve.schema.segmentation import Segmentation, Series

Kind = Literal["predictions", "explanations"]
View = Literal["mask", "map", "overlay"]

_JSON: Final = "application/json"
_SEGMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MOST_IMAGES: Final = 64
_MOST_BYTES: Final = 32 * 1024 * 1024
"""What a server reads in one request unless it is configured otherwise (`handlers.request_body.BodyLimits`)."""


@dataclass(frozen=True)
class Readiness:
    """What a supervisor or a gateway says of itself; false in a condition unless it is `ready`."""

    ready: bool
    state: str
    detail: str

    def __bool__(self) -> bool:
        return self.ready


class Client:
    """Asks one server, or the gateway before one; may be shared by threads.

    A prediction changes nothing on the server, so a request is repeated where that is sure to help and
    harms nobody: when the connection is refused, takes too long to open or breaks off, and after 429, 502 and 503.
    The pauses double from attempt to attempt, are scattered, and honour Retry-After. A *read* time-out is not retried:
    the server may still be working on the request, and a second one would only queue behind it. Raise
    the time-out instead.

    An answer counts only if it is the documented one, contradicts itself nowhere, names the model that was asked,
    and carries the sha256 of the image that was sent; everything else raises.

    Parameters
    ----------
    url
        Base URL of the inference API, of the front before it, or of a gateway.
    timeout
        Seconds to wait for an answer, or every time-out apart as `httpx.Timeout`.
    retries
        Most repetitions of one request; 0 for none.
    key
        Sent as `Authorization: Bearer KEY`, for a front or a gateway that asks for one.
    max_bytes
        Longest image that is read and sent; a longer one is refused here, as 413.
    cacert
        PEM file of the authority that signed the certificate, where the system does not know it.
    api
        Whose paths are asked. `auto` asks /live once, before the first request: a gateway names itself there. Where one
        URL has both (nginx before server and gateway), /live is the server's, and `gateway` asks for the other.

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
        cacert: Path | None = None,
        api: Api = "auto",
    ) -> None:
        self.url = url
        self.max_bytes = max_bytes
        self._transport = Transport(url, timeout, retries, key, cacert)
        self._interface = Interface(self._transport, api)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def predict(self, name: str, image: bytes | Path, version: str | None = None) -> Prediction | Segmentation:
        """Ask for one image.

        Parameters
        ----------
        name, version
            The model; without a version, the server's default one.
        image
            The encoded image, or the file that holds it.

        Returns
        -------
        Prediction or Segmentation
            By the model's task, which `.task` names; what both have is in `radserve.schema.prediction.ImageResult`.

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
        content, path = self._read(image), self._path("predictions", name, version)
        return validation.result(self._ask(path, content), RequestedImage(name, version, _sha256(content)))

    def explain(self, name: str, image: bytes | Path, version: str | None = None) -> Explanation:
        """Ask a classifier for one image, and for the part of it that speaks for the answer.

        Raises
        ------
        Refused, ServerFailed, Unreachable, TimedOut, NotAnAnswer, WrongCall, OSError
            See `predict`; 404 where the model explains nothing, as segmentation models do.
        """
        content, path = self._read(image), self._path("explanations", name, version)
        return validation.explanation(self._ask(path, content), RequestedImage(name, version, _sha256(content)))

    def picture(
        self,
        name: str,
        image: bytes | Path,
        version: str | None = None,
        *,
        of: Kind = "predictions",
        view: View = "overlay",
        size: Image | None = None,
    ) -> bytes:
        """Ask for an answer as a picture: one to look at, that carries neither label nor model.

        Parameters
        ----------
        version
            Name the one that gave the answer beside which the picture is shown: the default may change meanwhile.
        of
            A mask, or the explanation of a classifier's answer.
        view
            `mask` or `map` alone, or the `overlay` on the image.
        size
            The image as an answer described it; a picture of another size is none of it.

        Returns
        -------
        bytes
            A PNG that was decoded as a check.

        Raises
        ------
        Refused, ServerFailed, Unreachable, TimedOut, NotAnAnswer, WrongCall, OSError
            See `predict`; 406 where the model has no such view.
        """
        accept = f"image/png;view={view}"
        content, path = self._read(image), self._path(of, name, version)
        answer = self._transport.post(path, content, "application/octet-stream", accept)
        return response.picture(answer, size)

    def predict_many(
        self, name: str, images: Iterable[bytes | Path], version: str | None = None
    ) -> list[Prediction | Segmentation | RejectedImage]:
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
        batches = _batches(self._read(image) for image in images)
        answers: list[Prediction | Segmentation | RejectedImage] = []
        for batch in batches:
            asked = [RequestedImage(name, version, _sha256(image)) for image in batch]
            try:
                document = self._ask_several(self._path("predictions", name, version), batch)
                answers += validation.result_list(document, asked)
            except RejectedRequestError as error:
                if len(batch) > 1 or error.status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                    raise
                answers.append(RejectedImage(status=error.status, title=error.title, detail=error.detail))
        return answers

    def predict_series(self, name: str, slices: Iterable[bytes | Path], version: str | None = None) -> Series:
        """Ask a segmentation model for the slices of one examination, and for the volume that they make.

        They go in one request, since a volume is that of a request; more than the server takes are refused.

        Raises
        ------
        Refused, ServerFailed, Unreachable, TimedOut, NotAnAnswer, WrongCall, OSError
            See `predict_many`; also NotAnAnswer where the model is no segmentation model.
        """
        images = [self._read(image) for image in slices]
        if not images:
            raise InvalidCallError("slices is empty; a volume needs one slice at least.")
        path = self._path("predictions", name, version)
        asked = [RequestedImage(name, version, _sha256(image)) for image in images]
        return validation.series(self._ask_several(path, images), asked)

    def results(
        self,
        *,
        model: str | None = None,
        label: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        text: str | None = None,
    ) -> Iterator[HistoryEntry]:
        """Go through what a gateway has kept, the newest first; pages are asked for as they are needed.

        Parameters
        ----------
        since, until
            From `since` on, and before `until`; with their time zones.
        text
            Stands in the name of the file, the id or the checksum of the image.

        Raises
        ------
        Refused, ServerFailed, Unreachable, TimedOut, NotAnAnswer, WrongCall
            See `predict`; 404 where nothing is kept, WrongCall where no gateway is asked.
        """
        self._require_gateway()
        return history.find(self._transport, model=model, label=label, since=since, until=until, text=text)

    def result(self, identity: str) -> HistoryEntry:
        """Return one result of a gateway's history; raises as `results` does."""
        self._require_gateway()
        return history.get(self._transport, identity)

    def delete(self, identity: str) -> None:
        """Let a gateway forget one result; raises as `results` does."""
        self._require_gateway()
        history.delete(self._transport, identity)

    def ready(self, health_url: str | None = None) -> Readiness:
        """Ask whether requests will be answered; not repeated.

        Parameters
        ----------
        health_url
            Where `radserve serve --health-port` listens, with or without `/ready`. Not needed for a gateway or a front:
            they answer it beside the rest.

        Raises
        ------
        Unreachable, TimedOut, NotAnAnswer, WrongCall
            If it does not say.
        """
        url = base(health_url or f"{self.url.rstrip('/')}/ready")
        url = url if url.path.endswith("/ready") else url.join("/ready")
        answer = self._transport.get(url)
        match answer.status_code, response.parse(answer):
            case 200 | 503, {"state": str(state), "detail": str(detail)}:
                return Readiness(answer.is_success, state, detail)
        raise InvalidResponseError(f"{url} is not RadServe's /ready; name the port that --health-port gave it.")

    def _path(self, kind: Kind, name: str, version: str | None) -> str:
        path = _path(kind, name, version)
        return self._interface.prefix + path

    def _require_gateway(self) -> None:
        if not self._interface.gateway:
            raise InvalidCallError(
                f"{self.url} is no gateway, so nothing is kept there; ask one ('scripts/serve --with-front')."
            )

    def _read(self, image: bytes | Path) -> bytes:
        if isinstance(image, Path):
            with image.open("rb") as file:
                image = file.read(self.max_bytes + 1)
        if len(image) > self.max_bytes:
            raise RejectedRequestError(
                413, "Content too large", f"The image has more than the {self.max_bytes} bytes that are sent."
            )
        return image

    def _ask(self, path: str, content: bytes) -> Any:
        return response.document(self._transport.post(path, content, "application/octet-stream", _JSON))

    def _ask_several(self, path: str, images: list[bytes]) -> Any:
        instances = [{"b64": base64.b64encode(image).decode()} for image in images]
        content = json.dumps({"instances": instances}).encode()
        return response.document(self._transport.post(path, content, _JSON, _JSON))


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


def _path(kind: Kind, name: str, version: str | None) -> str:
    for key, value in (("name", name), ("version", version)):
        if value is not None and not _SEGMENT.fullmatch(value):
            raise InvalidCallError(f"{key} has value {value!r}; it may hold letters, digits, '.', '_' and '-' only.")
    return f"{kind}/{name}" + (f"/{version}" if version is not None else "")


def _sha256(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()
