"""Both clients against a real gateway: models, uploads to moto's S3, history."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image as Pillow

from radserve.client import AsyncClient, Client
from radserve.client.sources import Source
from radserve.errors import RejectedRequestError
from radserve.schema.prediction import Prediction
from tests.conftest import ROOT
from tests.gateways import Gateway, gateway
from tests.radserve.store import conftest
from tests.radserve.store.conftest import Aws
from tests.repack import NAME
from tests.server import Server

pytestmark = pytest.mark.e2e

FILM = ROOT / "archives" / NAME / "sample.png"
moto_url, bucket = conftest.moto_url, conftest.aws


@pytest.fixture
def running(server: Server, bucket: Aws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    uploads = f"s3://{bucket.bucket}/uploads"
    with gateway(server, tmp_path_factory.mktemp("gateway"), uploads=uploads, max_upload=200_000) as started:
        yield started


def test_every_kind_of_image_has_the_same_result(running: Gateway) -> None:
    picture = Pillow.open(FILM)
    with Client(running.url) as client:
        (model,) = client.models()
        assert (model.name, model.versions[0].labels) == (NAME, ("normal", "pneumonia"))
        upload = client.upload(FILM)
        sources = (FILM, str(FILM), FILM.read_bytes(), picture, np.asarray(picture), upload)
        results = [client.predict(NAME, source) for source in sources]
        client.delete_upload(upload)
        with pytest.raises(RejectedRequestError, match="404"):
            client.predict(NAME, upload)
        with pytest.raises(RejectedRequestError, match="413"):
            client.upload(bytes(200_001))
        entries = list(client.history(model=NAME))
        client.delete(entries[0].id)
        with pytest.raises(RejectedRequestError, match="404"):
            client.result(entries[0].id)
    assert {result.label for result in results} == {"pneumonia"}
    assert [entry.id for entry in entries] == [result.id for result in reversed(results)]


def test_streamed_results_are_those_of_one_request(running: Gateway) -> None:
    images: list[Source] = [FILM, FILM.read_bytes()[:2000], Pillow.open(FILM), FILM]
    with Client(running.url) as client:
        listed = client.predict_many(NAME, images)
        streamed = dict(client.stream(NAME, images))
        rows = [entry.id for entry in client.history(model=NAME)]
    for index, expected in enumerate(listed):
        result = streamed[index]
        if isinstance(expected, Prediction):
            assert isinstance(result, Prediction)
            assert result.probabilities == pytest.approx(expected.probabilities, abs=1e-5)  # of another batch
            assert result.id in rows
        else:
            assert result == expected
    assert len(rows) == 6


def test_tasks_of_an_async_client_share_a_gateway(running: Gateway) -> None:
    async def work() -> None:
        async with AsyncClient(running.url) as client:
            upload = await client.upload(FILM)
            results = await asyncio.gather(*(client.predict(NAME, image) for image in (FILM, upload, FILM)))
            assert {result.label for result in results} == {"pneumonia"}
            assert len([entry.id async for entry in client.history()]) == 3

    asyncio.run(work())
