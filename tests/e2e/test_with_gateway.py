"""Tests of radserve.cli.with_gateway, with real processes."""

import base64
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from radserve.cli import with_gateway
from radserve.client import Client
from radserve.errors import ServeError
from tests.fake_supervisor import PATIENCE, await_true
from tests.repack import NAME
from tests.server import ROOT, free_ports

FILM = (ROOT / "archives" / NAME / "sample.png").read_bytes()


@dataclass(frozen=True)
class Pair:
    """Server and gateway that are ready."""

    url: str
    metrics_url: str
    process: subprocess.Popen[str]

    def accepted(self) -> float:
        """Return the number of requests that TorchServe has accepted."""
        lines = httpx.get(self.metrics_url).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("ts_inference_requests_total{"))


@contextmanager
def started(store: Path, folder: Path) -> Iterator[Pair]:
    port, health, metrics, page = free_ports(4)
    arguments = [
        "--with-front",
        "--model-store",
        store,
        "--port",
        port,
        "--health-port",
        health,
        "--metrics-port",
        metrics,
    ]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RADSERVE", "PYTHONWARNINGS"))}
    own = {"RADSERVE_GATEWAY_PORT": str(page), "RADSERVE_GATEWAY_HISTORY": f"sqlite:{folder / 'history.sqlite3'}"}
    command = [sys.executable, "-m", "radserve.cli.with_gateway", *map(str, arguments), "--workers", "1"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT, env=clean | own)
    assert process.stdout is not None
    try:
        deadline = threading.Timer(PATIENCE, process.kill)
        deadline.start()
        output = next((line for line in process.stdout if line.startswith("The page is at")), "")
        deadline.cancel()
        assert output, (folder / "log").read_text()
        yield Pair(output.split()[-1], f"http://127.0.0.1:{metrics}/metrics", process)
    finally:
        process.terminate()
        process.wait(timeout=60)
        process.stdout.close()


@pytest.mark.e2e
def test_both_respond_and_a_stop_finishes_requests_and_leaves_no_process(store: Path, tmp_path: Path) -> None:
    with started(store, tmp_path) as pair, Client(pair.url) as client:
        assert httpx.get(pair.url).headers["content-type"].startswith("text/html")
        assert client.predict(NAME, FILM).label == "pneumonia"
        parts = psutil.Process(pair.process.pid).children(recursive=True)
        answers: list[int] = []
        before = pair.accepted()
        body = {"instances": [{"b64": base64.b64encode(FILM).decode()}] * 24}

        def ask() -> None:
            url = f"{pair.url}/api/predictions/{NAME}"
            answers.append(httpx.post(url, json=body, timeout=60).status_code)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        await_true(lambda: pair.accepted() >= before + 6)
        pair.process.send_signal(signal.SIGINT)
        for thread in threads:
            thread.join()
        assert answers == [200] * 6
        assert pair.process.wait(timeout=60) == 0
        assert psutil.wait_procs(parts, timeout=PATIENCE)[1] == []


STAYS = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit({code}))
signal.pause()
"""


@pytest.mark.parametrize(
    ("server", "gateway", "code", "message"),
    [
        (
            "import time; time.sleep(0.5); raise SystemExit(3)",
            STAYS.format(code=0),
            3,
            "the server exited with code 3; stopping the gateway",
        ),
        (
            STAYS.format(code=0),
            "import time; time.sleep(0.5); raise SystemExit(1)",
            7,
            "the gateway exited with code 1; stopping the server",
        ),
    ],
)
def test_when_one_exits_the_other_is_stopped(
    tmp_path: Path, server: str, gateway: str, code: int, message: str
) -> None:
    for name, text in (("radserve", server), ("gateway", gateway)):
        (tmp_path / f"{name}.py").write_text(text)
    # The scripts in the folder replace the two programs.
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from radserve.cli import with_gateway; with_gateway.main()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, "--with-front"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"RADSERVE_GATEWAY_PORT": str(free_ports(1)[0])},
        timeout=30,
        check=False,
    )
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr


def test_nothing_is_started_while_another_program_has_the_port_of_the_gateway() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "radserve.cli.with_gateway"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=os.environ | {"RADSERVE_GATEWAY_PORT": str(port)},
            timeout=30,
            check=False,
        )
    taken = f"radserve: 127.0.0.1: port {port} is taken (Address already in use); choose another RADSERVE_GATEWAY_PORT."
    assert (done.returncode, done.stdout, done.stderr.strip()) == (1, "", taken)


@pytest.mark.parametrize(("options", "code"), [(["--port", "x"], 2), (["--host", "0.0.0.0"], 1), (["--help"], 0)])
def test_invalid_options_are_reported_as_by_the_server(options: list[str], code: int) -> None:
    command = [sys.executable, "-m", "radserve.cli.with_gateway", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=30, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr


def test_the_gateway_gets_the_urls_of_the_server() -> None:
    result = with_gateway.addresses(["--port", "9001", "--health-port=9002", "--keys", "k.json"], {})
    assert result.server == "http://127.0.0.1:9001"
    assert result.environment({"PATH": "x", "RADSERVE_GATEWAY_SERVER": "http://elsewhere"}) == {
        "PATH": "x",
        "RADSERVE_GATEWAY_SERVER": "http://127.0.0.1:9001",
        "RADSERVE_GATEWAY_SUPERVISOR": "http://127.0.0.1:9002",
        "RADSERVE_GATEWAY_KEYS": "k.json",
    }
    assert with_gateway.addresses([], {"RADSERVE_GATEWAY_PORT": "8001"}).gateway == "http://127.0.0.1:8001"
    assert with_gateway.addresses(["--host", "::1"], {}).server == "http://[::1]:8080"


def test_a_port_of_the_gateway_that_is_not_a_number_is_rejected() -> None:
    with pytest.raises(ServeError, match=r"RADSERVE_GATEWAY_PORT has value 'http'; set it to a port, like 8000\."):
        with_gateway.addresses([], {"RADSERVE_GATEWAY_PORT": "http"})


def test_environment_variables_are_options_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADSERVE_PORT", "9001")
    assert with_gateway.addresses([], {}).server == "http://127.0.0.1:9001"


@pytest.mark.parametrize(
    "options", [["--host", "0.0.0.0"], ["--front"], ["--no-front"], ["--plain-http"], ["--certificate", "x.pem"]]
)
def test_options_that_publish_the_server_are_rejected(options: list[str]) -> None:
    with pytest.raises(ServeError, match=r"docs/gateway\.md"):
        with_gateway.addresses(options, {})
