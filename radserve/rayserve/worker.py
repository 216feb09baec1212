"""Adapts the handlers of an archive to Ray Serve: a replica is a process that loads one archive as TorchServe would.

Replicas import this module before the `handlers` of their archive, so it must import neither these nor the installed
ones.
"""

import asyncio
import importlib
import json
import logging
import math
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve._private import replica

from radserve.host.batch_context import BatchContext

Call = tuple[bytes, dict[str, str]]
"""Body and headers of a request."""
Reply = tuple[int, str, bytes, dict[str, str]]
"""Status, media type, body and headers of a response."""


class Context(BatchContext):
    """Replaces TorchServe's `context`: what a handler reads of its worker, and the requests of one batch."""

    def __init__(self, folder: Path, gpu: int | None, settings: Mapping[str, Any], metrics: "Reports") -> None:
        super().__init__([])
        self.manifest = json.loads((folder / "MAR-INF" / "MANIFEST.json").read_bytes())
        self.system_properties = {"model_dir": str(folder), "gpu_id": gpu, "batch_size": settings["batchSize"]}
        self.model_yaml_config = settings
        self.metrics = metrics


@dataclass(frozen=True)
class Metric:
    """Replaces one of TorchServe's metrics; `kind` is `counter` or `gauge`."""

    name: str
    kind: str
    reports: "Reports"

    def add_or_update(self, value: float, labels: Sequence[str]) -> None:
        """Add to a counter, or set a gauge."""
        self.reports.send({"metric": self.name, "kind": self.kind, "labels": list(labels), "value": value})


class Reports(logging.Handler):
    """Sends metrics and lines of the log to the engine's process; also replaces TorchServe's cache of metrics."""

    def __init__(self, path: str, listed: Sequence[str]) -> None:
        super().__init__(logging.WARNING)
        self._listed = listed  # KIND:NAME of each metric that is exposed
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def send(self, report: Mapping[str, Any]) -> None:
        """Send a report; it is lost if it is longer than a datagram, or the engine has ended."""
        with suppress(OSError):
            self._socket.sendto(json.dumps(report).encode(), self._path)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a line of the log."""
        self.send({"line": self.format(record)})

    def cache_keys(self) -> Sequence[str]:
        """Return the metrics that are exposed."""
        return self._listed

    def get_metric(self, name: str, kind: Any) -> Metric:
        """Return a metric; `kind` is an enumeration of TorchServe."""
        return Metric(name, kind.value, self)


def _close_port() -> None:
    """Keep Ray Serve from opening a port of this replica for calls by gRPC, which are not used.

    It would listen on all interfaces, and unpickle what anyone sends. tests/e2e/test_ray.py looks for open ports.
    """
    assert callable(replica.add_port_to_grpc_server)  # else this release of Ray opens the port in another way
    replica.add_port_to_grpc_server = lambda *_: 0


class Worker:
    """A replica; `reports` is the path of the socket that receives metrics and lines of the log."""

    def __init__(self, folder: str, settings: Mapping[str, Any], reports: str, listed: Sequence[str]) -> None:
        if "handlers" in sys.modules:
            raise RuntimeError("This process has imported other handlers than those of its archive.")
        _close_port()
        sys.path.insert(0, folder)
        self._reports = Reports(reports, listed)
        gpu = 0 if ray.get_gpu_ids() else None  # of those that this process may use
        self._context = Context(Path(folder), gpu, settings, self._reports)
        self._seconds = math.ceil(settings["responseTimeout"])
        self._thread = ThreadPoolExecutor(1)  # torch starts threads for each thread that calls it
        self._thread.submit(self._load).result()
        wait = settings["maxBatchDelay"] / 1000
        self._batch = serve.batch(max_batch_size=settings["batchSize"], batch_wait_timeout_s=wait)(self._respond_all)

    def _load(self) -> None:
        """Load the handler as TorchServe does, which imports its file from the root of the archive."""
        model = self._context.manifest["model"]
        json_lines = importlib.import_module("handlers.json_lines")
        self._reports.setFormatter(json_lines.JsonLines(f"{model['modelName']} {model['modelVersion']}"))
        logging.getLogger().addHandler(self._reports)
        module = importlib.import_module(model["handler"].removesuffix(".py"))
        kinds = [item for item in vars(module).values() if isinstance(item, type)]
        (kind,) = [item for item in kinds if item.__module__ == module.__name__]
        self._handler = kind()
        self._handler.initialize(self._context)

    async def respond(self, call: Call) -> Reply:
        """Respond to a request, in a batch with others."""
        reply: Reply = await self._batch(call)
        return reply

    async def _respond_all(self, calls: list[Call]) -> list[Reply]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._handle, calls)

    def _handle(self, calls: list[Call]) -> list[Reply]:
        """Run a batch. One that takes too long ends the process, even if its code never returns to Python."""
        signal.alarm(self._seconds)
        try:
            context = BatchContext([headers for _, headers in calls])
            return context.responses(self._handler.handle([{"body": body} for body, _ in calls], context))
        finally:
            signal.alarm(0)
