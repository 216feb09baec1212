"""`AsyncClient`: the methods of `Client` for asyncio."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Self, Unpack

import httpx

from radserve.client import catalog, history, predictions, readiness, sources, uploads
from radserve.client.api_detector import Api
from radserve.client.conditions import Conditions
from radserve.client.connection import AsyncConnection
from radserve.client.history import Filters
from radserve.client.predictions import Kind, Result, View
from radserve.client.readiness import Readiness
from radserve.client.results import Results
from radserve.client.sources import EncodedImage, Source
from radserve.client.streaming import Batch
from radserve.client.transport import TIMEOUT, AsyncTransport, http_settings, require_retries
from radserve.client.uploads import SentImage, Upload
from radserve.errors import RejectedRequestError
from radserve.schema.catalog import CatalogModel
from radserve.schema.explanation import Explanation
from radserve.schema.history import HistoryEntry, StoredResult
from radserve.schema.prediction import Image, Prediction
from radserve.schema.problem import RejectedImage
from radserve.schema.segmentation import Segmentation, Series


class AsyncClient:
    """Client of one server or gateway for one event loop.

    Parameters, errors and repetitions are those of `Client`. Files are read and images encoded in threads.

    Examples
    --------
    >>> async with AsyncClient("http://127.0.0.1:8080") as client:  # doctest: +SKIP
    ...     results = await asyncio.gather(*(client.predict("chest-xray-cnn", film) for film in films))
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
        self._http = httpx.AsyncClient(**http_settings(url, timeout, key, cacert))
        self._connection = AsyncConnection(AsyncTransport(self._http, url, retries), api)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.transport.close()

    async def predict(
        self, name: str, image: SentImage, version: str | None = None, **stated: Unpack[Conditions]
    ) -> Prediction | Segmentation:
        """Send one image; see `Client.predict`."""
        return await self._connection.send(predictions.predict(name, version, await self._read(image), stated))

    async def predict_frames(
        self, name: str, image: SentImage, version: str | None = None, **stated: Unpack[Conditions]
    ) -> Results:
        """Send one file; return a result for each frame; see `Client.predict_frames`."""
        call = predictions.predict_frames(name, version, await self._read(image), stated)
        return Results(*await self._connection.send(call))

    async def explain(
        self, name: str, image: SentImage, version: str | None = None, **stated: Unpack[Conditions]
    ) -> Explanation:
        """Send one image to a classifier, and return the result with a heat map; see `Client.explain`."""
        return await self._connection.send(predictions.explain(name, version, await self._read(image), stated))

    async def picture(
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
        """Return a result as a picture (PNG) for display; see `Client.picture`."""
        content = await self._read(image)
        return await self._connection.send(predictions.picture(name, version, content, of, view, size, stated))

    async def predict_many(
        self, name: str, images: Iterable[Source], version: str | None = None, **stated: Unpack[Conditions]
    ) -> Results:
        """Send several images, in as few requests as possible; see `Client.predict_many`."""
        results = Results()
        batches = predictions.batches(images, self.max_bytes)
        while batch := await asyncio.to_thread(next, batches, None):
            results.extend(await self._predict_batch(name, version, batch, stated))
        return results

    async def _predict_batch(
        self, name: str, version: str | None, batch: list[EncodedImage] | RejectedImage, stated: Conditions
    ) -> list[Result]:
        if isinstance(batch, RejectedImage):
            return [batch]
        try:
            return await self._connection.send(predictions.predict_batch(name, version, batch, stated))
        except RejectedRequestError as error:
            if not (single := predictions.singly(batch, error)):
                return predictions.rejected_alone(batch, error)
        return [item for image in single for item in await self._predict_batch(name, version, image, stated)]

    async def stream(
        self, name: str, images: Iterable[Source], version: str | None = None, **stated: Unpack[Conditions]
    ) -> AsyncGenerator[tuple[int, Result]]:
        """Yield the index and result of each image when it is ready: `async for`; see `Client.stream`."""
        first = 0
        batches = predictions.batches(images, self.max_bytes)
        while batch := await asyncio.to_thread(next, batches, None):
            if isinstance(batch, RejectedImage):
                yield first, batch
                first += 1
                continue
            async with aclosing(self._stream_batch(Batch(name, version, batch, stated, first))) as items:
                async for item in items:
                    yield item
            first += len(batch)

    async def _stream_batch(self, batch: Batch) -> AsyncGenerator[tuple[int, Result]]:
        async with self._connection.stream(batch.call) as reply:
            try:
                batch.begin(reply)
            except RejectedRequestError as error:
                if not (parts := batch.parts(error)):
                    yield batch.rejected(error)
                for part in parts:
                    async with aclosing(self._stream_batch(part)) as results:
                        async for result in results:
                            yield result
                return
            async for line in reply.aiter_lines():
                if (item := batch.read(line)) is not None:
                    yield item
        batch.require_complete()

    async def predict_series(
        self, name: str, slices: Iterable[Source], version: str | None = None, **stated: Unpack[Conditions]
    ) -> Series:
        """Send the slices of one examination, and return masks and volume; see `Client.predict_series`."""
        images = await asyncio.to_thread(lambda: [sources.read(image, self.max_bytes) for image in slices])
        return await self._connection.send(predictions.predict_series(name, version, images, stated))

    async def models(self) -> tuple[CatalogModel, ...]:
        """Return the models that are served; see `Client.models`."""
        return await self._connection.send(catalog.models())

    async def upload(self, image: Source) -> Upload:
        """Upload an image to the bucket of a gateway; see `Client.upload`."""
        form = await self._connection.send(uploads.create_form())
        content = await asyncio.to_thread(sources.read, image, form.max_bytes, uploads.LIMITED_BY)
        async with httpx.AsyncClient(**uploads.settings(form, self._http.timeout)) as bucket:
            transport = AsyncTransport(bucket, form.url, self._retries)
            reply = await transport.request("POST", httpx.URL(form.url), **uploads.submission(form, content))
        return uploads.uploaded(reply, form, content)

    async def delete_upload(self, upload: Upload) -> None:
        """Delete an upload."""
        await self._connection.send(uploads.delete(upload))

    def history(self, **filters: Unpack[Filters]) -> AsyncIterator[HistoryEntry]:
        """Iterate over the history of a gateway, newest first: `async for`; see `Client.history`."""
        return self._pages(history.query(filters))

    async def _pages(self, filters: dict[str, str]) -> AsyncIterator[HistoryEntry]:
        cursor: str | None = ""
        while cursor is not None:
            page = await self._connection.send(history.page(filters, cursor))
            for entry in page.results:
                yield entry
            cursor = page.next

    async def result(self, identifier: str) -> StoredResult:
        """Return one result from the history of a gateway; see `Client.result`."""
        return await self._connection.send(history.entry(identifier))

    async def delete(self, identifier: str) -> None:
        """Delete one result from the history of a gateway; see `Client.delete`."""
        await self._connection.send(history.delete(identifier))

    async def ready(self, health_url: str | None = None) -> Readiness:
        """Return whether requests would be answered; see `Client.ready`."""
        url = readiness.url(self.url, health_url)
        return readiness.parse(await self._connection.transport.request("GET", url, repeat=False))

    async def _read(self, image: SentImage) -> EncodedImage | Upload:
        return image if isinstance(image, Upload) else await asyncio.to_thread(sources.read, image, self.max_bytes)
