"""Uploads of the client: the form of a gateway, then the bucket."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from radserve.client import AsyncClient, Client, Upload
from radserve.errors import RejectedRequestError
from tests.radserve.scripted import Reply, Request, Scripted, document, prediction, problem


def form(odd: Scripted, max_bytes: int = 100) -> dict[str, object]:
    return {
        "object": "uploads/a/1",
        "url": f"{odd.url}/bucket",
        "fields": {"key": "uploads/a/1", "policy": "p"},
        "expires": "2026-01-02T03:04:05Z",
        "max_bytes": max_bytes,
    }


def storing(odd: Scripted, bucket: Reply) -> None:
    """Make the server a gateway whose bucket responds this way."""

    def script(request: Request) -> Reply:
        if request.path == "/bucket":
            return bucket
        if request.path.startswith("/api/predictions/"):
            return document(prediction(b"film"))
        return Reply(204, media_type=None) if request.method == "DELETE" else document(form(odd))

    odd.script = script


@pytest.fixture
def gateway(odd: Scripted) -> Iterator[Client]:
    storing(odd, Reply(204, media_type=None))
    with Client(odd.url, api="gateway", key="secret") as opened:
        yield opened


def test_an_upload_is_predicted_by_its_key_and_deleted(gateway: Client, odd: Scripted) -> None:
    upload = gateway.upload(b"film")
    assert gateway.predict("chest", upload).label == "normal"
    gateway.delete_upload(upload)
    _, bucket, predicted, deleted = odd.requests
    assert bucket.body.index(b'name="policy"') < bucket.body.index(b"film")  # the file comes last
    assert json.loads(predicted.body) == {"object": "uploads/a/1"}
    assert predicted.headers["Content-Type"] == "application/json"
    assert (deleted.method, deleted.path) == ("DELETE", "/api/uploads?object=uploads%2Fa%2F1")


def test_the_bucket_does_not_get_the_key(gateway: Client, odd: Scripted) -> None:
    gateway.upload(b"film")
    form_request, bucket = odd.requests
    assert form_request.headers["Authorization"] == "Bearer secret"
    assert "Authorization" not in bucket.headers


def test_an_image_above_the_limit_of_the_bucket_is_not_sent(gateway: Client, odd: Scripted) -> None:
    with pytest.raises(RejectedRequestError, match=r"413 Content too large.* 100 bytes .limit of the gateway's bucket"):
        gateway.upload(bytes(101))
    assert [request.path for request in odd.requests] == ["/api/uploads"]


def test_a_result_of_another_image_than_the_uploaded_one_is_invalid(gateway: Client) -> None:
    upload = gateway.upload(b"film")
    with pytest.raises(Exception, match="sha256"):
        gateway.predict("chest", replace(upload, sha256="0" * 64))


def test_a_rejecting_bucket_and_a_gateway_without_one_are_rejections(gateway: Client, odd: Scripted) -> None:
    storing(odd, Reply(403, b"<Error>", "application/xml"))
    with pytest.raises(RejectedRequestError, match="403 Upload rejected: The bucket rejects"):
        gateway.upload(b"film")
    odd.script = lambda _: problem(404, "Not found", "Uploads are disabled.")
    with pytest.raises(RejectedRequestError, match="Uploads are disabled"):
        gateway.upload(b"film")


def test_an_async_client_uploads_too(odd: Scripted) -> None:
    storing(odd, Reply(204, media_type=None))

    async def work() -> Upload:
        async with AsyncClient(odd.url, api="gateway", key="secret") as client:
            upload = await client.upload(b"film")
            assert (await client.predict("chest", upload)).label == "normal"
            await client.delete_upload(upload)
            return upload

    assert asyncio.run(work()).object == "uploads/a/1"
    assert "Authorization" not in odd.requests[1].headers
