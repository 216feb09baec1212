"""Tests of model versions on a server without a proxy, by the command line and with a store."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from radserve.build import model_store
from tests.repack import FILM, NAME
from tests.server import ROOT, Server, running
from tests.versions import PATH, add, copied

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plain")


@pytest.fixture(scope="module")
def server(store: Path, folder: Path) -> Iterator[Server]:
    """A server with version 1.0.0, and a store that also has 1.1.0."""
    author = copied(store, folder / "author")
    add(author, "1.1.0")
    radserve(folder, "store", "push", f"{NAME}/1.1.0", "--model-store", str(author), "--store", str(folder / "archive"))
    own = copied(store, folder / "store")
    options = ["--runtime", str(folder / "runtime"), "--store", str(folder / "archive"), "--workers", "1", "--no-front"]
    with running(own, folder / "log", *options, "--settle", "1") as started:
        yield started


def radserve(folder: Path, *arguments: str, code: int = 0) -> str:
    """Run the command line against the server, and return its output."""
    environment = os.environ | {"RADSERVE_RUNTIME": str(folder / "runtime"), "COLUMNS": "160", "TERM": "dumb"}
    environment.pop("PYTHONWARNINGS", None)
    command = [sys.executable, "-m", "radserve", *arguments]
    result = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=150, check=False
    )
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout + result.stderr


def predict(folder: Path, path: str = PATH) -> httpx.Response:
    transport = httpx.HTTPTransport(uds=str(folder / "runtime" / "inference.sock"))
    with httpx.Client(transport=transport, base_url="http://torchserve", timeout=60) as torchserve:
        return torchserve.post(path, content=FILM)


def answered_by(folder: Path) -> str:
    return str(predict(folder).json()["model"]["version"])


def test_a_rollout_pulls_and_verifies_a_version_then_switches_all_requests(server: Server, folder: Path) -> None:
    assert answered_by(folder) == "1.0.0"
    output = radserve(folder, "rollout", NAME, "1.1.0", "--reason", "ticket 9")
    assert "Without a proxy, requests cannot be split" in output
    assert "all of them at once" in output
    assert answered_by(folder) == "1.1.0"
    entry = model_store.read(server.store).find(NAME, "1.1.0")
    assert entry is not None
    assert (server.store / entry.file).is_file()


def test_an_unknown_version_is_rejected_with_the_available_ones(server: Server, folder: Path) -> None:
    output = radserve(folder, "rollout", NAME, "9.9.9", code=1)
    assert "no version 9.9.9. Available: 1.1.0" in output
    assert answered_by(folder) == "1.1.0"


def test_tables_show_both_versions(server: Server, folder: Path) -> None:
    output = radserve(folder, "models", "show", NAME)
    assert "1.0.0" in output
    assert "1.1.0" in output
    listed = json.loads(radserve(folder, "models", "list", "--json"))
    (model,) = listed["models"]
    assert {item["version"]: item["share"] for item in model["versions"]} == {"1.0.0": 0, "1.1.0": 100}


def test_applying_an_exported_deployment_changes_nothing(server: Server, folder: Path) -> None:
    file = folder / "deployment.yaml"
    file.write_text(radserve(folder, "models", "export"))
    radserve(folder, "diff", str(file))
    radserve(folder, "apply", str(file))
    before = radserve(folder, "audit", "--json")
    file.write_text(file.read_text().replace("share: 0", "share: 5").replace("share: 100", "share: 95"))
    assert "5% of requests" in radserve(folder, "diff", str(file), code=1)
    assert "only a proxy can split its requests" in radserve(folder, "apply", str(file), code=1)
    assert radserve(folder, "audit", "--json") == before


def test_a_version_is_rolled_back_and_unregistered(server: Server, folder: Path) -> None:
    assert "receives 100% of the requests" in radserve(folder, "models", "unregister", NAME, "1.1.0", code=1)
    radserve(folder, "models", "rollback", NAME, "--reason", "worse")
    assert answered_by(folder) == "1.0.0"
    radserve(folder, "models", "unregister", NAME, "1.1.0")
    assert predict(folder, f"{PATH}/1.1.0").status_code == 404
    output = radserve(folder, "audit")
    for word in ("ticket 9", "worse", "rollback", "unregister"):
        assert word in output


def test_changes_by_torchserves_management_api_are_verified_and_recorded(server: Server, folder: Path) -> None:
    transport = httpx.HTTPTransport(uds=str(folder / "runtime" / "control.sock"))
    with httpx.Client(transport=transport, base_url="http://radserve", timeout=120) as control:
        assert control.get("/models").json()["models"][0]["modelName"] == NAME
        assert control.get(f"/models/{NAME}/1.0.0").json()[0]["minWorkers"] == 1
        rejected = control.post("/models", params={"url": "http://127.0.0.1:9/x.mar"})
        assert rejected.status_code == 404
        assert rejected.headers["content-type"] == "application/problem+json"
        path = server.store / f"{NAME}-1.1.0.mar"
        good = path.read_bytes()
        path.write_bytes(good[:-1] + b"x")
        assert "sha256" in control.post("/models", params={"url": path.name}).json()["detail"]
        path.write_bytes(good)
        assert control.put(f"/models/{NAME}/1.0.0/set-default").status_code == 200
        assert control.put("/models/nothing").status_code == 404
        assert control.delete(f"/models/{NAME}").status_code == 409
        assert control.get("/nothing").status_code == 404
        assert control.patch("/models").status_code == 405
