"""HTTP client for predictions, explanations and the history of a gateway."""

from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Self, Unpack

import httpx

from radserve.client import catalog, history, predictions, readiness, sources, uploads
from radserve.client.api_detector import Api
from radserve.client.conditions import Conditions
from radserve.client.connection import Connection
from radserve.client.history import Filters
from radserve.client.predictions import Kind, Result, View
from radserve.client.readiness import Readiness
from radserve.client.results import Results
from radserve.client.sources import EncodedImage, Source
from radserve.client.streaming import Batch
from radserve.client.transport import TIMEOUT, Transport, http_client, require_retries
from radserve.client.uploads import SentImage, Upload
from radserve.errors import RejectedRequestError
from radserve.schema.catalog import CatalogModel
from radserve.schema.explanation import Explanation
from radserve.schema.history import HistoryEntry, StoredResult
from radserve.schema.prediction import Image, Prediction
from radserve.schema.problem import RejectedImage
from radserve.schema.segmentation import Segmentation, Series


class Client:
    """Client of one server or gateway; can be shared by threads. `AsyncClient` has the same methods for asyncio.

    An image is anything that `radserve.client.sources.read` accepts: bytes, a path, a binary file object, a NumPy
    array, a Pillow image, a pydicom dataset; or an `Upload`, for `predict`, `explain` and `picture`. `version` None is
    the server's default version. Predictions accept the keyword arguments of `radserve.client.conditions.Conditions`.

    Requests are repeated where that is safe: predictions and queries change nothing on the server, so they are sent
    again after a refused or broken connection, a connect timeout, and the statuses 429, 502 and 503. The pauses double,
    with jitter; Retry-After is honoured. A *read* timeout is not repeated: the server may still be working on the
    request. Increase the timeout instead. `delete` and `ready` are never repeated.

    Parameters
    ----------
    url
        Base URL of the inference API, of the proxy, or of a gateway.
    timeout
        Seconds to wait for a response, or an `httpx.Timeout`. Connecting has a limit of 5 seconds, sending one of 60.
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
        self._retries = require_retries(retries)
        self._http = http_client(url, timeout, key, cacert)
        self._connection = Connection(Transport(self._http, url, retries), api)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._connection.transport.close()

    def predict(
        self, name: str, image: SentImage, version: str | None = None, **stated: Unpack[Conditions]
    ) -> Prediction | Segmentation:
        """Send one image; the class of the result depends on the model's task, which `.task` names."""
        return self._connection.send(predictions.predict(name, version, self._read(image), stated))

    def predict_frames(
        self, name: str, image: SentImage, version: str | None = None, **stated: Unpack[Conditions]
    ) -> Results:
        """Send one file; return a result or rejection for each frame: of most files, one. A series has a volume."""
        call = predictions.predict_frames(name, version, self._read(image), stated)
        return Results(*self._connection.send(call))

    def explain(
        self, name: str, image: SentImage, version: str | None = None, **stated: Unpack[Conditions]
    ) -> Explanation:
        """Send one image to a classifier, and return the result with a heat map of what influenced it.

        Raises RejectedRequestError with status 404 if the model is not a classifier.
        """
        return self._connection.send(predictions.explain(name, version, self._read(image), stated))

    def picture(
        self,
        name: str,
        image: SentImage,
        version: str | None = None,
        *,
        of: Kind = "predictions",
        view: View = "overlay",
        size: Image | None = None,
        **stated: Unpack[Conditions],
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
            `mask` or `map` alone, `overlay` for the image with it, or `image` for the image as decoded.
        size
            Image of a result; a picture with another size is invalid.
        """
        return self._connection.send(predictions.picture(name, version, self._read(image), of, view, size, stated))

    def predict_many(
        self, name: str, images: Iterable[Source], version: str | None = None, **stated: Unpack[Conditions]
    ) -> Results:
        """Send several images, in as few requests as the default limits of a server allow.

        Returns one entry per image or frame, in order; `RejectedImage` for one that is too large, or that the server
        rejects.
        """
        results = Results()
        for batch in predictions.batches(images, self.max_bytes):
            results.extend(self._predict_batch(name, version, batch, stated))
        return results

    def _predict_batch(
        self, name: str, version: str | None, batch: list[EncodedImage] | RejectedImage, stated: Conditions
    ) -> list[Result]:
        if isinstance(batch, RejectedImage):
            return [batch]
        try:
            return self._connection.send(predictions.predict_batch(name, version, batch, stated))
        except RejectedRequestError as error:
            if not (single := predictions.singly(batch, error)):
                return predictions.rejected_alone(batch, error)
        return [item for image in single for item in self._predict_batch(name, version, image, stated)]

    def stream(
        self, name: str, images: Iterable[Source], version: str | None = None, **stated: Unpack[Conditions]
    ) -> Generator[tuple[int, Result]]:
        """Send several images to a gateway, and yield the index and result of each when it is ready.

        Not in the order of the images; otherwise like `predict_many`. The gateway analyses no further images if the
        iterator is closed or the program ends. An error leaves the results that were yielded valid. Raises
        InvalidCallError without a gateway.
        """
        first = 0
        for batch in predictions.batches(images, self.max_bytes):
            if isinstance(batch, RejectedImage):
                yield first, batch
                first += 1
            else:
                yield from self._stream_batch(Batch(name, version, batch, stated, first))
                first += len(batch)

    def _stream_batch(self, batch: Batch) -> Iterator[tuple[int, Result]]:
        with self._connection.stream(batch.call) as reply:
            try:
                batch.begin(reply)
            except RejectedRequestError as error:
                if not (parts := batch.parts(error)):
                    yield batch.rejected(error)
                for part in parts:
                    yield from self._stream_batch(part)
                return
            for line in reply.iter_lines():
                if (item := batch.read(line)) is not None:
                    yield item
        batch.require_complete()

    def predict_series(
        self, name: str, slices: Iterable[Source], version: str | None = None, **stated: Unpack[Conditions]
    ) -> Series:
        """Send the slices of one examination to a segmentation model, and return masks and volume.

        The slices are sent in one request; the server rejects more than its limits allow.
        """
        images = [sources.read(image, self.max_bytes) for image in slices]
        return self._connection.send(predictions.predict_series(name, version, images, stated))

    def models(self) -> tuple[CatalogModel, ...]:
        """Return the models that are served, with their versions, labels, cut-offs and scores."""
        return self._connection.send(catalog.models())

    def upload(self, image: Source) -> Upload:
        """Upload an image to the bucket of a gateway, for images that are too large for a request.

        Raises RejectedRequestError with status 404 if the gateway has no bucket, and 413 if the image is too large for
        it. The bucket deletes the image after a day or two; `delete_upload` deletes it now.
        """
        form = self._connection.send(uploads.create_form())
        content = sources.read(image, form.max_bytes, uploads.LIMITED_BY)
        with httpx.Client(**uploads.settings(form, self._http.timeout)) as bucket:
            transport = Transport(bucket, form.url, self._retries)
            reply = transport.request("POST", httpx.URL(form.url), **uploads.submission(form, content))
        return uploads.uploaded(reply, form, content)

    def delete_upload(self, upload: Upload) -> None:
        """Delete an upload."""
        self._connection.send(uploads.delete(upload))

    def history(self, **filters: Unpack[Filters]) -> Iterator[HistoryEntry]:
        """Iterate over the history of a gateway, newest first; pages are requested on demand.

        The keyword arguments are those of `radserve.client.history.Filters`. Raises RejectedRequestError with status
        404 if nothing is stored, and InvalidCallError without a gateway.
        """
        return self._pages(history.query(filters))

    def _pages(self, filters: dict[str, str]) -> Iterator[HistoryEntry]:
        cursor: str | None = ""
        while cursor is not None:
            page = self._connection.send(history.page(filters, cursor))
            yield from page.results
            cursor = page.next

    def result(self, identifier: str) -> StoredResult:
        """Return one result from the history of a gateway; raises as `history` does."""
        return self._connection.send(history.entry(identifier))

    def delete(self, identifier: str) -> None:
        """Delete one result from the history of a gateway; raises as `history` does."""
        self._connection.send(history.delete(identifier))

    def ready(self, health_url: str | None = None) -> Readiness:
        """Return whether requests would be answered; not repeated.

        `health_url` is that of `radserve serve --health-port`, with or without `/ready`; not needed for a gateway or
        proxy.
        """
        url = readiness.url(self.url, health_url)
        return readiness.parse(self._connection.transport.request("GET", url, repeat=False))

    def _read(self, image: SentImage) -> EncodedImage | Upload:
        return image if isinstance(image, Upload) else sources.read(image, self.max_bytes)
