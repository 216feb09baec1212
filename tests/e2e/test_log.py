"""Log of a real server."""

import time

import httpx
import pytest

from tests.conftest import ROOT
from tests.repack import NAME
from tests.server import Server

pytestmark = pytest.mark.e2e

FILM = (ROOT / "archives" / NAME / "sample.png").read_bytes()


def test_a_request_is_one_json_line_without_its_query(server: Server) -> None:
    before = len(server.log.read_text().splitlines())
    url = f"{server.url}/predictions/{NAME}"
    httpx.post(url, content=FILM, params={"patient": "Jane Doe"})
    httpx.post(url, content=b"Jane Doe, no image")
    time.sleep(0.3)
    new = server.log.read_text().splitlines()[before:]
    assert len(new) == 2
    records = server.log_lines()[-2:]
    assert [record["logger"] for record in records] == ["access", "access"]
    assert [
        f'"POST /predictions/{NAME} HTTP/1.1" {status}' in record["message"]
        for status, record in zip((200, 415), records, strict=True)
    ] == [True, True]
    assert "Jane" not in "".join(new)


def test_every_line_is_json_once_java_runs(server: Server) -> None:
    plain = [line for line in server.log.read_text().splitlines() if not line.startswith("{")]
    # Java's and TorchServe's own words before logging is configured.
    assert len(plain) <= 3, plain


def test_metrics_are_scraped(server: Server) -> None:
    httpx.post(f"{server.url}/predictions/{NAME}", content=FILM)
    text = httpx.get(server.metrics_url).text
    assert f'ts_inference_requests_total{{model_name="{NAME}",' in text
    assert "PredictionTime{" in text
