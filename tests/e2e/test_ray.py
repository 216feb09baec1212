"""A real server with --engine ray: responses as under TorchServe, isolation of models, changes, and its stop."""

import base64
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import httpx
import psutil
import pytest

from benchmarks.server import descendants
from radserve.build.source import find_sources
from radserve.host.run_directory import RunDirectory
from tests.built_archives import Provide
from tests.conftest import ROOT
from tests.handlers import images
from tests.repack import FILM, NAME, entry_of, repack, with_settings
from tests.server import Server, running

pytestmark = pytest.mark.e2e

NEIGHBOUR = "cifar10-lenet"
PHOTO = (ROOT / "archives" / NEIGHBOUR / "sample.png").read_bytes()
OWN_TYPE = "application/x-neighbour+json"
CLIENTS = 12
SECONDS = 10
"""Limit of the neighbour's batches."""


def mark(contents: dict[str, bytes]) -> None:
    """Change the code of the neighbour: its errors have a media type of their own, and some bodies break it."""
    name = "handlers/response.py"
    contents[name] = contents[name].replace(b"application/problem+json", OWN_TYPE.encode())
    name = "handlers/torchserve_handler.py"
    line = b"        start = time.monotonic()\n        with busy_lock()"
    assert line in contents[name]
    faults = b"        if data[0]['body'] == b'raise':\n            raise ValueError('broken handler')\n"
    faults += b"        while data[0]['body'] == b'hang':\n            pass\n"
    contents[name] = contents[name].replace(line, faults + line)
    with_settings(responseTimeout=SECONDS)(contents)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Hold a run directory with a short path, for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="ray-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def ray(provide: Provide, tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Server]:
    """Serve the chest model, and a neighbour whose archive has other code."""
    scratch = tmp_path_factory.mktemp("ray")
    store = scratch / "store"
    provide(store, find_sources(ROOT / "archives", [NAME, NEIGHBOUR]))
    archive = store / entry_of(store, NEIGHBOUR).file
    content = archive.read_bytes()
    archive.unlink()  # a link to one that other tests use
    archive.write_bytes(content)
    repack(store, mark, NEIGHBOUR)
    with running(store, scratch / "log", "--engine", "ray", "--runtime", str(folder)) as server:
        yield server


def post(server: Server, content: bytes, path: str = f"predictions/{NAME}", **headers: str) -> httpx.Response:
    headers = {"X-Request-Id": "same"} | {key.replace("_", "-"): value for key, value in headers.items()}
    return httpx.post(f"{server.url}/{path}", content=content, headers=headers, timeout=60)


def replica(server: Server, name: str) -> psutil.Process:
    """Return the only worker of a model."""
    (process,) = (item for item in descendants(psutil.Process(server.process.pid)) if _serves(item, name))
    return process


def _serves(process: psutil.Process, name: str) -> bool:
    try:
        return process.cmdline()[:1] == [f"ray::ServeReplica:{name}-1.0.0:worker"]
    except psutil.NoSuchProcess:
        return False


def zipped(*members: bytes) -> bytes:
    stream = BytesIO()
    with ZipFile(stream, "w") as archive:
        for index, member in enumerate(members):
            archive.writestr(f"{index}.png", member)
    return stream.getvalue()


def test_both_engines_give_the_same_responses(server: Server, ray: Server) -> None:
    film = images.film(64, 64)
    several = {"instances": [{"b64": base64.b64encode(item).decode()} for item in (FILM, b"no image", FILM)]}
    requests: dict[str, tuple[bytes, str, dict[str, str]]] = {
        "png": (FILM, "predictions", {}),
        "jpeg": (images.saved(film, "JPEG"), "predictions", {}),
        "dicom": (images.dicom(film, Modality="CR", BodyPartExamined="CHEST"), "predictions", {}),
        "out of scope": (images.dicom(film, Modality="CR", BodyPartExamined="HAND"), "predictions", {}),
        "json": (json.dumps(several).encode(), "predictions", {"Content_Type": "application/json"}),
        "zip": (zipped(FILM, FILM), "predictions", {"Content_Type": "application/zip"}),
        "corrupt": (FILM[:900], "predictions", {}),
        "no image": (b"%PDF-1.7", "predictions", {}),
        "empty": (b"", "predictions", {}),
        "explanation": (FILM, "explanations", {}),
        "picture": (FILM, "explanations", {"Accept": "image/png;view=overlay"}),
        "assurance": (FILM, "predictions", {"X_Assurances": "age=P4Y, view=AP"}),
        "invalid assurance": (FILM, "predictions", {"X_Assurances": "age=old"}),
        "repair": (FILM, "predictions", {"X_Repair": "invert"}),
        "long": (FILM + bytes(2_000_000), "predictions", {}),
    }
    for media in ("application/json", "text/plain"):  # TorchServe could decode these: `decode_input_request`
        for content in (json.dumps(several).encode(), b"5", b"null", b'"abc"', b""):
            requests[f"{content[:9]!r} as {media}"] = (content, "predictions", {"Content_Type": media})
    statuses = set()
    for name, (content, kind, headers) in requests.items():
        for version in ("", "/1.0.0"):
            expected, actual = (post(item, content, f"{kind}/{NAME}{version}", **headers) for item in (server, ray))
            assert (name, actual.status_code, actual.content) == (name, expected.status_code, expected.content)
            both = [{key: value for key, value in item.headers.items() if key != "date"} for item in (expected, actual)]
            assert both[0] == both[1], name
            statuses.add(actual.status_code)
    assert statuses >= {200, 400, 415, 422}
    assert post(ray, FILM, f"predictions/{NAME}/2.0.0").status_code == 404


def test_each_model_runs_the_code_of_its_own_archive(ray: Server) -> None:
    responses = [post(ray, b"no image", f"predictions/{name}") for name in (NAME, NEIGHBOUR)]
    assert [item.headers["content-type"] for item in responses] == ["application/problem+json", OWN_TYPE]


def test_ray_listens_on_loopback_only(ray: Server) -> None:
    family = [psutil.Process(ray.process.pid), *psutil.Process(ray.process.pid).children(recursive=True)]
    assert {replica(ray, NAME), replica(ray, NEIGHBOUR)} <= set(family)
    listening = {
        item.laddr.ip for process in family for item in process.net_connections("tcp") if item.status == "LISTEN"
    }
    assert listening
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_workers_report_metrics(ray: Server) -> None:
    post(ray, FILM)
    wanted = f'radserve_requests_total{{model_name="{NAME}",model_version="1.0.0",code="200"}}'
    deadline = time.monotonic() + 30
    while not any(line.startswith(wanted) and float(line.split()[-1]) > 0 for line in metrics(ray)):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def metrics(server: Server) -> list[str]:
    return httpx.get(server.metrics_url).text.splitlines()


def test_changes_of_versions_are_rejected(ray: Server, folder: Path) -> None:
    transport = httpx.HTTPTransport(uds=str(RunDirectory(folder).control))
    with httpx.Client(transport=transport, base_url="http://control") as client:
        for method, path in [
            ("POST", f"/versions/{NAME}/2.0.0"),
            ("POST", f"/rollouts/{NAME}"),
            ("PUT", "/deployment"),
            ("GET", f"/models/{NAME}"),
        ]:
            response = client.request(method, path)
            assert response.status_code == 501
            assert "--engine torchserve" in response.json()["detail"]
        shown = client.get(f"/versions/{NAME}").json()
    assert [item["version"] for item in shown["versions"]] == ["1.0.0"]


def test_a_killed_worker_is_replaced_and_its_neighbours_keep_answering(ray: Server) -> None:
    killed, neighbour = replica(ray, NAME), replica(ray, NEIGHBOUR)
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            statuses.append(post(ray, PHOTO, f"predictions/{NEIGHBOUR}").status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    killed.kill()
    # A request that finds no worker waits for the next one.
    first = [post(ray, FILM).status_code for _ in range(2)]
    stop.set()
    thread.join()
    assert first in ([200, 200], [503, 200])
    assert set(statuses) == {200}
    assert replica(ray, NAME) != killed
    assert replica(ray, NEIGHBOUR) == neighbour
    deadline = time.monotonic() + 60
    while httpx.get(f"{ray.health_url}/ready").json()["state"] != "ready":
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_faults_of_a_handler_are_logged_and_a_hanging_one_is_ended(ray: Server) -> None:
    """After the kill: the neighbour's worker ends."""
    path, hanging = f"predictions/{NEIGHBOUR}", replica(ray, NEIGHBOUR)
    assert post(ray, b"raise", path).status_code == 500
    logged = [line["logger"] for line in ray.log_lines() if "broken handler" in line.get("error", "")]
    assert logged == ["radserve.rayserve.engine"]
    assert post(ray, b"hang", path).status_code == 503
    assert psutil.wait_procs([hanging], timeout=5)[1] == []


def test_a_stop_finishes_accepted_requests_and_leaves_no_process(ray: Server) -> None:
    """The last test: it stops the server of this file."""
    statuses: list[int] = []
    slow = json.dumps({"instances": [{"b64": base64.b64encode(FILM).decode()}] * 24}).encode()
    threads = [threading.Thread(target=lambda: statuses.append(post(ray, slow).status_code)) for _ in range(CLIENTS)]
    before = accepted(ray)
    processes = psutil.Process(ray.process.pid).children(recursive=True)
    for thread in threads:
        thread.start()
    while accepted(ray) < before + CLIENTS:
        time.sleep(0.01)
    ray.process.terminate()
    for thread in threads:
        thread.join()
    assert statuses == [200] * CLIENTS
    assert ray.process.wait(timeout=60) == 0
    assert psutil.wait_procs(processes, timeout=15)[1] == []


def accepted(server: Server) -> float:
    return sum(float(line.split()[-1]) for line in metrics(server) if line.startswith("ts_inference_requests_total{"))
