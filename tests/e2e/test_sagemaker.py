"""SageMaker's container contract with a real server."""

import base64
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.server import ROOT, free_ports

pytestmark = pytest.mark.e2e

SAMPLE = (ROOT / "archives" / "chest-xray-cnn" / "sample.png").read_bytes()


@pytest.fixture(scope="module")
def endpoint(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Start the server like SageMaker, and wait for /ping for up to 8 minutes."""
    folder = tmp_path_factory.mktemp("sagemaker")
    model = folder / "model"
    model.mkdir()
    for file in store.glob("*.mar"):
        shutil.copy2(file, model)
    port, health = map(str, free_ports(2))
    command = [sys.executable, "-m", "radserve", "sagemaker", "--model", str(model), "--health-port", health]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, env=_environment(port)) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        try:
            deadline = time.monotonic() + 120
            while not _healthy(client):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.1)
            yield client
        finally:
            process.terminate()
        assert process.wait(60) == 0


def _environment(port: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    return kept | {"SAGEMAKER_BIND_TO_PORT": port}


def _healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/ping", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (SAMPLE, "image/png"),
        (SAMPLE, "application/x-image"),
        (b'{"image": "%b"}' % base64.b64encode(SAMPLE), "application/json"),
    ],
    ids=["image", "x-image", "json"],
)
def test_invocations_respond_like_predictions(endpoint: httpx.Client, content: bytes, kind: str) -> None:
    answer = endpoint.post("/invocations", content=content, headers={"Content-Type": kind})
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"]["name"] == "chest-xray-cnn"
    assert answer.json()["label"] in {"normal", "pneumonia"}


def test_other_custom_attributes_change_nothing(endpoint: httpx.Client) -> None:
    headers = {"X-Amzn-SageMaker-Custom-Attributes": "../models"}
    answer = endpoint.post("/invocations", content=SAMPLE, headers=headers)
    assert answer.status_code == 200
    assert "explanation" not in answer.json()


def test_a_damaged_image_gets_a_problem(endpoint: httpx.Client) -> None:
    answer = endpoint.post("/invocations", content=SAMPLE[:100], headers={"Content-Type": "image/png"})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert "label" not in answer.json()


def test_ping_is_200_when_every_model_is_ready(endpoint: httpx.Client) -> None:
    answer = endpoint.get("/ping")
    assert answer.status_code == 200
    assert answer.json()["state"] == "ready"


@pytest.mark.parametrize(
    "path",
    ["/", "/predictions/chest-xray-cnn", "/explanations/chest-xray-cnn", "/models", "/auth", "/metrics", "/workflows",
     "/metrics/torchserve", "/invocations/x", "/ping/x", "//invocations"],
)  # fmt: skip
def test_all_other_paths_are_closed(endpoint: httpx.Client, path: str) -> None:
    assert endpoint.post(path, content=SAMPLE).status_code == 404


def test_a_batch_transform_job_gets_limits_that_the_server_accepts(endpoint: httpx.Client) -> None:
    parameters = endpoint.get("/execution-parameters").json()
    size, concurrent = parameters["MaxPayloadInMB"], parameters["MaxConcurrentTransforms"]
    assert size * concurrent <= 100
    assert parameters["BatchStrategy"] == "SINGLE_RECORD"
    longest = SAMPLE[:100].ljust(size * 2**20, b"\0")
    with ThreadPoolExecutor(concurrent) as pool:
        answers = pool.map(lambda content: endpoint.post("/invocations", content=content), [longest] * concurrent)
        assert [answer.status_code for answer in answers] == [400] * concurrent, "damaged, not too large"
    assert endpoint.post("/invocations", content=iter([SAMPLE[:100], SAMPLE[100:]])).status_code == 200, "chunks"
    assert endpoint.post("/execution-parameters", content=SAMPLE).status_code == 405


def test_ping_rejects_post_and_invocations_reject_get(endpoint: httpx.Client) -> None:
    assert endpoint.post("/ping", content=SAMPLE).status_code == 405
    assert endpoint.get("/invocations").status_code == 405
