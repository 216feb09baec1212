"""Starts RadServe and its peers, each as well configured as its settings permit."""

import importlib.util
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from benchmarks.load import Image, connect, post
from benchmarks.peers import torchserve_handler
from benchmarks.peers.model import ARCHIVE, CODE, Code
from benchmarks.server import CHECKOUT, descendants, free_ports, launch, wait_until_ready
from radserve.host.resources import cores
from radserve.torchserve.launch import java

_TORCHSERVE: Final = """\
inference_address=http://127.0.0.1:{}
management_address=http://127.0.0.1:{}
metrics_address=http://127.0.0.1:{}
grpc_inference_port=0
grpc_management_port=0
disable_token_authorization=true
disable_system_metrics=true
number_of_netty_threads=1
netty_client_threads=1
model_store={folder}
load_models={name}=model.mar
default_workers_per_model={workers}
"""
_BATCHES: Final = "batchSize: 4\nmaxBatchDelay: 1\nresponseTimeout: 60\nstartupTimeout: 120\n"
_LOG: Final = """\
<Configuration><Appenders><Console name="log"><PatternLayout pattern="%m%n%ex"/></Console></Appenders>
<Loggers><Root level="warn"><AppenderRef ref="log"/></Root></Loggers></Configuration>
"""


@dataclass(frozen=True)
class Target:
    """What all servers of a comparison serve."""

    name: str
    archive: Path
    image: Image  # the first one to send


@dataclass(frozen=True)
class Server:
    """A server that responds."""

    url: str
    process: psutil.Process

    def seconds(self) -> float:
        """Return the processor time of all its processes."""
        times = [each.cpu_times() for each in (self.process, *descendants(self.process))]
        return sum(time.user + time.system for time in times)


@contextmanager
def radserve(target: Target, folder: Path, version: str) -> Iterator[Server]:
    """Serve with RadServe."""
    arguments = ("--models", f"{target.name}/{version}", "--domain", "warn")
    with launch(target.archive.parent, folder / "log", *arguments, patience=300) as server:
        yield Server(server.url, psutil.Process(server.process.pid))


@contextmanager
def peer(kind: str, code: Code, target: Target, folder: Path) -> Iterator[Server]:
    """Serve with a peer."""
    ports = free_ports(3)
    arguments = PEERS[kind](target, folder, ports)
    environment = dict(os.environ) | {ARCHIVE: str(target.archive), CODE: code, "OMP_NUM_THREADS": "1"}
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))}
    environment |= {"LOG_LOCATION": str(folder), "METRICS_LOCATION": str(folder)}
    url = f"http://127.0.0.1:{ports[0]}"

    def responds() -> bool:
        connection = connect(url)
        try:
            return post(connection, f"/predictions/{target.name}", target.image) > 0
        except RuntimeError:
            return False  # a model that is not loaded yet
        finally:
            connection.close()

    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(arguments, stdout=log, stderr=log, env=environment, cwd=CHECKOUT) as process,
    ):
        server = Server(url, psutil.Process(process.pid))
        try:
            wait_until_ready(responds, process, time.monotonic() + 120)
            yield server
        finally:
            children = descendants(server.process)
            process.terminate()
            for child in psutil.wait_procs(children, timeout=10)[1]:
                child.kill()


def _fastapi(_: Target, __: Path, ports: Sequence[int]) -> list[str]:
    options = ["--workers", str(cores()), "--port", str(ports[0]), "--log-level", "warning"]
    options += ["--timeout-worker-healthcheck", "60"]  # imports of torch on a busy machine take longer than the default
    return [sys.executable, "-m", "uvicorn", "--factory", "benchmarks.peers.fastapi_app:create", *options]


def _torchserve(target: Target, folder: Path, ports: Sequence[int]) -> list[str]:
    model = {"modelName": target.name, "modelVersion": "1.0", "handler": "torchserve_handler.py"}
    manifest = {"archiverVersion": "0.12.0", "model": model | {"configFile": "model-config.yaml"}}
    with zipfile.ZipFile(folder / "model.mar", "w") as archive:
        archive.write(torchserve_handler.__file__, "torchserve_handler.py")
        archive.writestr("model-config.yaml", _BATCHES)
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
    configuration = _TORCHSERVE.format(*ports, folder=folder, name=target.name, workers=cores())
    (folder / "config.properties").write_text(configuration)
    (folder / "log4j2.xml").write_text(_LOG)
    spec = importlib.util.find_spec("ts")
    assert spec is not None
    assert spec.origin is not None
    home = Path(spec.origin).parent.parent
    return [
        java(),
        "-XX:+UseSerialGC",
        f"-Dlog4j.configurationFile={folder / 'log4j2.xml'}",
        f"-Dmodel_server_home={home}",
        "-cp",
        str(home / "ts" / "frontend" / "*"),
        "org.pytorch.serve.ModelServer",
        "--python",
        sys.executable,
        "--ts-config-file",
        str(folder / "config.properties"),
    ]


PEERS: Final[Mapping[str, Callable[[Target, Path, Sequence[int]], list[str]]]] = {
    "fastapi": _fastapi,
    "torchserve": _torchserve,
}
"""Functions that return the command of a peer on three free ports, and write its files to a folder."""
