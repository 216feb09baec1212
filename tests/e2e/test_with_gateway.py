"""Tests of radserve.cli.with_gateway, with real processes."""

import base64
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import psutil
import pytest

from radserve.cli.with_gateway import Addresses
from radserve.client import Client
from tests import command_line
from tests.fake_supervisor import PATIENCE, await_true
from tests.radserve.minimal_archive import write_archive
from tests.repack import FILM, NAME
from tests.server import ROOT, command, free_ports


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
    options = ("--with-gateway", "--gateway-port", str(page), "--workers", "1")
    arguments = command(store, [port, health, metrics], *options)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RADSERVE", "PYTHONWARNINGS"))}
    own = {"RADSERVE_GATEWAY_HISTORY": f"sqlite:{folder / 'history.sqlite3'}"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT, env=clean | own)
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
        assert "GET /ready" not in (tmp_path / "log").read_text()  # the start does not log its own requests
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
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from radserve import logging; logging.configure();"
        "from radserve.cli.with_gateway import Addresses, run;"
        f"sys.exit(run(Addresses('127.0.0.1', 1, 2, '127.0.0.1', {free_ports(1)[0]}), ['serve'], print))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=30, check=False
    )
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr


@pytest.mark.parametrize("options", [[], ["--check"]])
def test_nothing_is_started_while_another_program_has_the_port_of_the_gateway(options: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = serve("--with-gateway", "--gateway-port", port, *options)
    taken = f"radserve: 127.0.0.1: port {port} is taken (Address already in use); choose another --gateway-port."
    assert (done.returncode, done.stdout, done.stderr.strip()) == (1, "", taken)


def test_the_gateway_and_the_server_need_different_ports() -> None:
    (port,) = free_ports(1)
    done = serve("--with-gateway", "--gateway-port", port, "--port", port, "--check")
    assert (done.returncode, f"have the same value {port}; choose two" in done.stderr) == (1, True), done.stderr


def serve(*options: object, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `radserve serve` on free ports with options that it rejects."""
    port, health, metrics = free_ports(3)
    ports = ("--port", port, "--health-port", health, "--metrics-port", metrics)
    return command_line.run("serve", *ports, *options, environment=environment)


@pytest.mark.parametrize(
    "options", [["--host", "0.0.0.0"], ["--front"], ["--no-front"], ["--plain-http"], ["--certificate", "x.pem"]]
)
def test_options_that_publish_the_server_are_rejected(options: list[str]) -> None:
    done = serve("--with-gateway", *options)
    assert (done.returncode, "docs/gateway.md" in done.stderr) == (1, True), done.stderr


def test_a_port_that_is_not_a_number_is_rejected() -> None:
    done = serve("--with-gateway", environment=dict(os.environ) | {"RADSERVE_GATEWAY_PORT": "http"})
    assert (done.returncode, "--gateway-port" in done.stderr) == (2, True), done.stderr


def test_a_check_starts_nothing_and_creates_a_private_run_directory(tmp_path: Path) -> None:
    write_archive(tmp_path / "store")
    done = serve("--check", "--runtime", tmp_path / "run", "--model-store", tmp_path / "store")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700
    tmp_path.chmod(0o755)
    done = serve("--check", "--runtime", tmp_path)
    assert (done.returncode, "other users can enter it" in done.stderr) == (1, True)


def test_the_help_lists_every_port() -> None:
    done = command_line.run("serve", "--help", environment=dict(os.environ) | {"COLUMNS": "200"})
    section = done.stdout.partition(" Ports ")[2].partition("─╯")[0]
    names = {"--port", "--gateway-port", "--health-port", "--metrics-port", "--management-port"}
    assert names | {"--metrics-port-public"} == set(re.findall(r"--[a-z-]*port[a-z-]*", section))


def test_the_gateway_gets_the_urls_of_the_server() -> None:
    result = Addresses("127.0.0.1", 9001, 9002, "127.0.0.1", 8001, "k.json")
    assert result.gateway == "http://127.0.0.1:8001"
    assert result.environment({"PATH": "x", "RADSERVE_GATEWAY_SERVER": "http://elsewhere"}) == {
        "PATH": "x",
        "RADSERVE_GATEWAY_SERVER": "http://127.0.0.1:9001",
        "RADSERVE_GATEWAY_SUPERVISOR": "http://127.0.0.1:9002",
        "RADSERVE_GATEWAY_HOST": "127.0.0.1",
        "RADSERVE_GATEWAY_PORT": "8001",
        "RADSERVE_GATEWAY_KEYS": "k.json",
    }
    assert replace(result, host="::1").environment({})["RADSERVE_GATEWAY_SERVER"] == "http://[::1]:9001"
