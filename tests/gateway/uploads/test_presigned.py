"""Presigned uploads to moto's S3, and predictions of them."""

import asyncio
import base64
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from gateway import app
from gateway.access import Caller
from gateway.backends.base import ModelResponse
from gateway.errors import NotAuthenticatedError, SettingsError
from gateway.history.recorder import HistoryRecorder
from gateway.services import Services
from gateway.settings import Settings
from gateway.uploads.presigned import UploadStore
from radserve.auth.api_keys import Role
from radserve.schema.prediction import Prediction
from tests.conftest import ROOT
from tests.gateway.fake_backend import FakeBackend, respond
from tests.radserve.store import conftest
from tests.radserve.store.conftest import Aws
from tests.server import Server, free_ports

SAMPLE = ROOT / "archives" / "chest-xray-cnn" / "sample.png"
LONGEST = 200_000

moto_url, bucket = conftest.moto_url, conftest.aws


class Named:
    """Trusts the header X-Who."""

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        if "x-who" not in headers:
            raise NotAuthenticatedError("Say who you are.")
        roles = {Role.READ} if headers["x-who"] == "reader" else {Role.PREDICT}
        return Caller(headers["x-who"], frozenset(roles))


def settings(uploads: str, **more: Any) -> Settings:
    return Settings(uploads=uploads, max_upload=LONGEST, history="none", **more)


@pytest.fixture
def echo() -> FakeBackend:
    return FakeBackend()


class Client:
    """Sends requests to an application in this process, each in a new event loop."""

    def __init__(self, application: FastAPI) -> None:
        self._app = application

    def request(self, method: str, path: str, who: str = "ann", **options: Any) -> httpx.Response:
        return asyncio.run(self._request(method, path, who, options))

    async def _request(self, method: str, path: str, who: str, options: dict[str, Any]) -> httpx.Response:
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://front") as client:
            return await client.request(method, path, headers={"X-Who": who} if who else {}, **options)

    def post(self, path: str, who: str = "ann", **options: Any) -> httpx.Response:
        return self.request("POST", path, who, **options)

    def delete(self, key: str, who: str = "ann") -> httpx.Response:
        return self.request("DELETE", "/api/uploads", who, params={"object": key})


def opened(chosen: Settings, backend: Any) -> Client:
    uploads = UploadStore.from_settings(chosen)
    return Client(app.assemble(Services(chosen, backend, Named(), HistoryRecorder(None, chosen), uploads=uploads)))


@pytest.fixture
def client(bucket: Aws, echo: FakeBackend) -> Client:
    """Return a client of a gateway with uploads."""
    return opened(settings(f"s3://{bucket.bucket}/front/uploads", max_bytes=1024), echo)


def create_form(client: Client, who: str = "ann") -> dict[str, Any]:
    response = client.post("/api/uploads", who)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


def send(form: Mapping[str, Any], content: bytes, **changed: str) -> httpx.Response:
    """Upload a file with a form."""
    fields = {**form["fields"], **changed}
    return httpx.post(form["url"], data=fields, files={"file": ("film.png", content)})


def predict(client: Client, key: str, who: str = "ann") -> httpx.Response:
    return client.post("/api/predictions/chest-xray-cnn", who, json={"object": key})


def test_file_above_request_limit_is_uploaded_and_predicted(client: Client, echo: FakeBackend) -> None:
    content = SAMPLE.read_bytes()
    refused = client.post("/api/predictions/chest-xray-cnn", content=content)
    assert refused.status_code == 413
    assert "POST /api/uploads" in refused.json()["detail"]

    form = create_form(client)
    assert send(form, content).status_code == 204
    response = predict(client, form["object"])
    assert response.status_code == 200, response.text
    assert response.json()["label"] == "normal"
    assert [item.body for item in echo.requests] == [content]


def test_result_of_another_upload_is_discarded(client: Client, echo: FakeBackend) -> None:
    form = create_form(client)
    assert send(form, SAMPLE.read_bytes()).status_code == 204
    echo.script = lambda request: respond(replace(request, body=b"of another patient"))
    assert predict(client, form["object"]).status_code == 502


def test_upload_form_limits_key_time_and_size(client: Client) -> None:
    form = create_form(client)
    left = datetime.fromisoformat(form["expires"]) - datetime.now(UTC)
    assert timedelta(minutes=9) < left <= timedelta(minutes=10)
    assert form["max_bytes"] == LONGEST
    assert form["fields"]["key"] == form["object"]
    assert create_form(client)["object"] != form["object"]
    policy = json.loads(base64.b64decode(form["fields"]["policy"]))
    assert ["content-length-range", 1, LONGEST] in policy["conditions"]


@pytest.mark.parametrize("size", [0, LONGEST + 1])
def test_storage_rejects_empty_or_too_large_file(client: Client, size: int) -> None:
    response = send(create_form(client), b"x" * size)
    assert response.status_code == 400
    assert "EntityToo" in response.text


@pytest.mark.parametrize(
    "changed",
    [{"key": "front/uploads/mine"}, {"key": "index.json"}, {"acl": "public-read"}, {"x-amz-meta-a": "b"}],
)
def test_storage_rejects_altered_form(client: Client, changed: dict[str, str]) -> None:
    assert send(create_form(client), b"x", **changed).status_code == 403


def test_declared_media_type_is_forwarded(client: Client, echo: FakeBackend) -> None:
    form = create_form(client)
    send(form, b"{}", **{"Content-Type": "application/json"})
    predict(client, form["object"])
    bare = create_form(client)
    send(bare, b"x")
    predict(client, bare["object"])
    assert [item.media_type for item in echo.requests] == ["application/json", ""]


def test_upload_key_works_for_its_owner_only(client: Client, echo: FakeBackend) -> None:
    form = create_form(client)
    send(form, b"x")
    assert create_form(client, "bob")["object"].split("/")[2] != form["object"].split("/")[2]
    response = predict(client, form["object"], who="bob")
    assert response.status_code == 403
    assert response.json()["detail"].startswith("Unknown upload key")
    gone = client.delete(form["object"], "bob")
    assert gone.status_code == 403
    assert predict(client, form["object"]).status_code == 200
    assert len(echo.requests) == 1


def test_other_objects_of_bucket_are_inaccessible(client: Client, bucket: Aws, echo: FakeBackend) -> None:
    own = create_form(client)["object"].rpartition("/")[0]
    bucket.client("s3").put_object(Bucket=bucket.bucket, Key="secret", Body=b"x")
    bucket.client("s3").put_object(Bucket=bucket.bucket, Key=f"{own}/secret", Body=b"x")
    for key in (
        "secret",
        f"{own}/secret",
        f"{own}/../../../secret",
        f"{own}/",
        "",
        "/",
        f"s3://{bucket.bucket}/secret",
    ):
        assert predict(client, key).status_code == 403, key
    for odd in (f"{own}/{'a' * 32}\n", f"{own}/{'A' * 32}", f"{own}/{'a' * 32}/{'a' * 32}", f"{own}%2f{'a' * 32}"):
        assert predict(client, odd).status_code == 403, odd
    assert echo.requests == []


def test_missing_upload_returns_404(client: Client) -> None:
    response = predict(client, create_form(client)["object"])
    assert response.status_code == 404
    assert "POST /api/uploads" in response.json()["detail"]


def test_upload_remains_until_deleted(client: Client) -> None:
    form = create_form(client)
    send(form, b"x")
    assert predict(client, form["object"]).status_code == predict(client, form["object"]).status_code == 200
    for _ in range(2):
        assert client.delete(form["object"]).status_code == 204
    assert predict(client, form["object"]).status_code == 404


def test_too_large_upload_is_not_read(client: Client, bucket: Aws) -> None:
    key = create_form(client)["object"]
    bucket.client("s3").put_object(Bucket=bucket.bucket, Key=key, Body=b"x" * (LONGEST + 1))
    response = predict(client, key)
    assert response.status_code == 413
    assert str(LONGEST) in response.json()["detail"]


def test_too_large_upload_for_server_returns_413(client: Client, echo: FakeBackend) -> None:
    form = create_form(client)
    send(form, b"x")
    echo.script = lambda _: ModelResponse(413, "", b"")
    response = predict(client, form["object"])
    assert response.status_code == 413
    assert "analysis service" in response.json()["detail"]


@pytest.mark.parametrize(
    ("fault", "timeout", "status", "message"),
    [
        ({"do": "403"}, 60, 502, "denied access (AccessDenied)"),
        ({"do": "503"}, 60, 503, "try again"),  # boto3 retries once first, after up to a second
        ({"do": "reset"}, 60, 502, "unavailable"),
        ({"do": "cut"}, 60, 502, "unavailable"),
        ({"do": "stall", "seconds": 2}, 2, 504, "did not respond within 1 s"),
    ],
)
def test_failing_storage_returns_problem(
    bucket: Aws,
    echo: FakeBackend,
    fault: dict[str, Any],
    timeout: float,
    status: int,
    message: str,
) -> None:
    client = opened(settings(f"s3://{bucket.bucket}/uploads", timeout=timeout), echo)
    form = create_form(client)
    send(form, b"x" * 100_000)
    bucket.fail({"method": "GET", **fault})
    response = predict(client, form["object"])
    assert response.status_code == status, response.text
    assert message in response.json()["detail"]
    assert echo.requests == []


def test_missing_bucket_returns_502(bucket: Aws, echo: FakeBackend) -> None:
    client = opened(settings("s3://radserve-nowhere/uploads"), echo)
    response = predict(client, create_form(client)["object"])
    assert response.status_code == 502
    assert "NoSuchBucket" in response.json()["detail"]


def test_missing_credentials_return_502(
    bucket: Aws,
    echo: FakeBackend,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    client = opened(settings("s3://radserve-nowhere/uploads"), echo)
    response = client.post("/api/uploads")
    assert response.status_code == 502
    assert "Unable to locate credentials" in caplog.text


def test_uploads_require_predict_role(client: Client) -> None:
    assert client.post("/api/uploads", "reader").status_code == 403
    assert client.post("/api/uploads", "").status_code == 401


def test_csp_allows_upload_origin_only(client: Client, bucket: Aws, echo: FakeBackend) -> None:
    policy = client.request("GET", "/live").headers["content-security-policy"]
    assert f"connect-src 'self' {bucket.url};" in policy
    assert create_form(client)["url"] == f"{bucket.url}/{bucket.bucket}"
    assert (
        "connect-src 'self';" in opened(settings(""), echo).request("GET", "/live").headers["content-security-policy"]
    )


def test_disabled_uploads_name_the_setting(echo: FakeBackend) -> None:
    client = opened(settings(""), echo)
    for response in (client.post("/api/uploads"), client.delete("a")):
        assert response.status_code == 404
        assert "Uploads are disabled" in response.json()["detail"]
    assert predict(client, "a").status_code == 400


@pytest.mark.parametrize("place", ["bucket", "s3://", "s3://bucket", "s3://bucket/", "s3://bucket/../a", "s3://B/a"])
def test_invalid_upload_location_is_a_settings_error(place: str) -> None:
    with pytest.raises(SettingsError, match=r"RADSERVE_GATEWAY_UPLOADS has value .* use s3://BUCKET/PREFIX"):
        app.create(settings(place))


def test_aws_form_uses_regional_bucket_host(
    bucket: Aws,
    echo: FakeBackend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    client = opened(settings("s3://radserve-demo-uploads/a"), echo)
    assert create_form(client)["url"] == "https://radserve-demo-uploads.s3.eu-central-1.amazonaws.com/"
    policy = client.request("GET", "/live").headers["content-security-policy"]
    assert "connect-src 'self' https://radserve-demo-uploads.s3.eu-central-1.amazonaws.com;" in policy


@contextmanager
def listening(chosen: Settings) -> Iterator[str]:
    """Run a gateway under uvicorn."""
    (port,) = free_ports(1)
    running = uvicorn.Server(uvicorn.Config(app.create(chosen), port=port, log_config=None))
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        while not running.started:
            assert thread.is_alive()
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        running.should_exit = True
        thread.join(10)


@pytest.mark.e2e
def test_documented_upload_works_with_real_server(bucket: Aws, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "uploads.md").read_text("utf-8"), re.DOTALL)
    with listening(settings(f"s3://{bucket.bucket}/uploads", server=server.url, supervisor=server.health_url)) as url:
        results: dict[str, Any] = {}
        exec(block.replace("http://127.0.0.1:8000", url), results)
        plain = httpx.post(f"{url}/api/predictions/chest-xray-cnn", content=SAMPLE.read_bytes())
    assert plain.status_code == 200, plain.text
    own = {"id", "time"}
    result = results["result"]
    assert result.model_dump(exclude=own) == Prediction.model_validate(plain.json()).model_dump(exclude=own)
    assert bucket.keys() == []
