"""Log of a real server."""

import base64
import io
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.proxy import await_text
from tests.repack import FILM, NAME, repack
from tests.server import Server, command, free_ports, running

pytestmark = pytest.mark.e2e


def narrow() -> str:
    """Return the film with a width by which the faulty handler knows it, as base64."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(FILM)) as image:
        image.resize((301, image.height)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def test_a_request_is_one_json_line_without_its_query(server: Server) -> None:
    before = len(server.log.read_text().splitlines())
    url = f"{server.url}/predictions/{NAME}"
    httpx.post(url, content=FILM, params={"patient": "Jane Doe"})
    httpx.post(url, content=b"Jane Doe, no image", headers={"X-Request-Id": "r-1.a"})
    time.sleep(0.3)
    new = server.log.read_text().splitlines()[before:]
    assert len(new) == 2
    records = server.log_lines()[-2:]
    assert [record["logger"] for record in records] == ["access", "access"]
    assert re.fullmatch("[0-9a-f]{32}", records[0]["request_id"])  # made by nginx
    assert records[1]["request_id"] == "r-1.a"
    assert [
        f'"POST /predictions/{NAME}/1.0.0 HTTP/1.1" {status}' in record["message"]
        for status, record in zip((200, 415), records, strict=True)
    ] == [True, True]
    assert "Jane" not in "".join(new)


def test_only_failed_requests_to_the_management_api_are_logged(server: Server) -> None:
    before = len(server.log_lines())
    transport = httpx.HTTPTransport(uds=server.management_socket())
    with httpx.Client(transport=transport, base_url="http://torchserve", timeout=20) as management:
        assert management.get(f"/models/{NAME}").status_code == 200
        assert management.put(f"/models/{NAME}/1.0.0/set-default").status_code == 200
        assert management.get("/models/nothing?patient=Jane").status_code == 404
        assert management.put(f"/models/{NAME}/9.9.9/set-default").status_code == 404
    time.sleep(0.3)
    lines = [record["message"] for record in server.log_lines()[before:] if record["logger"] == "access"]
    requests = [re.findall('"(.*) HTTP/1.1" ([0-9]+)', line)[0] for line in lines]
    assert requests == [("GET /models/nothing", "404"), (f"PUT /models/{NAME}/9.9.9/set-default", "404")]


def test_every_line_is_json(server: Server) -> None:
    assert [line for line in server.log.read_text().splitlines() if not line.startswith("{")] == []


def test_a_normal_start_logs_no_warnings_of_torchserve(server: Server) -> None:
    assert [line for line in server.log_lines() if line["logger"] == "ModelServer"] == []


def test_metrics_are_scraped(server: Server) -> None:
    httpx.post(f"{server.url}/predictions/{NAME}", content=FILM)
    text = httpx.get(server.metrics_url).text
    assert f'ts_inference_requests_total{{model_name="{NAME}",' in text
    assert "PredictionTime{" in text


def with_handler(store: Path, folder: Path, code: str) -> Path:
    """Copy the store, with code at the end of the archive's handler."""
    shutil.copytree(store, folder)

    def change(contents: dict[str, bytes]) -> None:
        contents["classification.py"] += code.encode()

    repack(folder, change)
    return folder


FAULT = """

_predict = Classification.predict


def _fails_once(self, result):
    if result.prepared.image.width == 301:
        raise LookupError("DOE^JANE")
    return _predict(self, result)


Classification.predict = _fails_once
"""


@pytest.fixture(scope="module")
def faulty(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, list[str]]]:
    """Run a server with the fault; return the lines that its start logged too."""
    folder = tmp_path_factory.mktemp("faulty")
    with running(with_handler(store, folder / "store", FAULT), folder / "log", "--workers", "1") as server:
        yield server, server.log.read_text().splitlines()


def test_a_start_logs_at_most_20_lines(faulty: tuple[Server, list[str]]) -> None:
    _, lines = faulty
    assert 0 < len(lines) <= 20
    assert [line for line in lines if '"logger":"access"' in line] == []  # of the server's own requests


def test_a_failed_request_has_one_line_with_traceback_and_request_id(faulty: tuple[Server, list[str]]) -> None:
    server, start = faulty
    url = f"{server.url}/predictions/{NAME}"
    body = json.dumps({"instances": [{"b64": narrow()}]})
    headers = {"X-Request-Id": "test-301", "Content-Type": "application/json"}
    document = httpx.post(url, content=body, headers=headers).json()
    assert document["predictions"][0]["status"] == 500
    assert httpx.post(url, content=FILM).status_code == 200
    time.sleep(0.5)
    lines = server.log.read_text().splitlines()[len(start) :]
    records = [json.loads(line) for line in lines]
    (failure,) = [record for record in records if record["level"] == "ERROR"]
    assert failure["logger"] == "handlers.torchserve_handler"
    assert failure["model"] == f"{NAME} 1.0.0"
    assert failure["request_id"] == "test-301"
    assert "in _fails_once" in failure["message"]
    assert failure["message"].endswith("LookupError")
    assert "DOE^JANE" not in failure["message"].replace('raise LookupError("DOE^JANE")', "")


def test_a_worker_that_does_not_start_has_its_reason_in_the_log(store: Path, tmp_path: Path) -> None:
    broken = with_handler(store, tmp_path / "store", "\nimport a_package_that_is_missing\n")
    ports, log = free_ports(3), tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command(broken, ports, "--workers", "1"), stderr=file, cwd=ROOT)
    try:
        await_text(log, "No module named 'a_package_that_is_missing'", process)
        assert httpx.get(f"http://127.0.0.1:{ports[1]}/ready").status_code == 503
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0
