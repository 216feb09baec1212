"""Fake TorchServe: the HTTP APIs of TorchServe 0.12 without Java and without workers.

It listens as TorchServe does on the unix sockets of a run directory, reads real archives, and answers with their stored
samples. `Behavior` makes it slow or makes it fail; `die` closes every socket.

Use `running` in a thread of the test, or `command` as a child process that reads a TorchServe configuration.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import socket
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route


@dataclass
class Behavior:
    """Deviations from a healthy TorchServe; tests may change them at any time.

    Attributes
    ----------
    delay, prediction_delay
        Seconds before each response of the management API, and of a prediction.
    status, scale_status, prediction_status
        HTTP status instead of the usual one: of the management API, of changing workers, of predictions.
    ready
        Workers that are READY at most, for each version; None for all.
    dying
        Workers exit while they start, and are started again.
    synchronous
        Synchronous requests of the management API so far; TorchServe would have blocked predictions.
    pending
        Requests waiting in the queue of each version.
    prediction
        Keys that replace those of a prediction.
    metrics
        Lines added to the metrics.
    """

    delay: float = 0.0
    prediction_delay: float = 0.0
    status: int | None = None
    scale_status: int | None = None
    prediction_status: int | None = None
    ready: int | None = None
    dying: bool = False
    synchronous: int = 0
    pending: int = 0
    prediction: dict[str, Any] = field(default_factory=dict)
    metrics: str = ""


@dataclass
class _Model:
    file: str
    sha256: str
    sample: dict[str, Any]
    workers: int


class FakeTorchServe:
    """State and HTTP API of one fake server.

    Attributes
    ----------
    models
        Registered versions by name and version.
    requests
        Management requests so far: method, path, query.
    predictions
        Number of predictions accepted, by name and version.
    busy_file, closing
        See `handlers.worker.BUSY` and `handlers.worker.CLOSING`; from the environment, as for a real worker.
    """

    def __init__(self, store: Path, files: Sequence[str] = (), workers: int = 1) -> None:
        self.behavior = Behavior()
        self.models: dict[tuple[str, str], _Model] = {}
        self.defaults: dict[str, str] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.predictions: Counter[tuple[str, str]] = Counter()
        self._store = store
        self.busy_file = _path("RADSERVE_BUSY")
        self.closing = _path("RADSERVE_CLOSING")
        for file in files:
            self._load(file, workers)
        self.app = Starlette(
            routes=[
                self._management("/models", self._list, "GET"),
                self._management("/models", self._register, "POST"),
                self._management("/models/{name}", self._describe, "GET"),
                self._management("/models/{name}/{version}", self._describe, "GET"),
                self._management("/models/{name}/{version}/set-default", self._set_default, "PUT"),
                self._management("/models/{name}/{version}", self._scale, "PUT"),
                self._management("/models/{name}/{version}", self._unregister, "DELETE"),
                Route("/predictions/{name}", self._predict, methods=["POST", "PUT"]),
                Route("/predictions/{name}/{version}", self._predict, methods=["POST", "PUT"]),
                Route("/metrics", self._metrics),
                Route("/behavior", self._behave, methods=["PUT"]),
            ]
        )

    def _management(self, path: str, handler: Callable[[Request], Response], method: str) -> Route:
        async def answer(request: Request) -> Response:
            self.requests.append((request.method, request.url.path, dict(request.query_params)))
            self.behavior.synchronous += request.query_params.get("synchronous") == "true"
            await asyncio.sleep(self.behavior.delay)
            if self.behavior.status is not None:
                return _problem(self.behavior.status, "InternalServerException", "fake failure")
            return handler(request)

        return Route(path, answer, methods=[method])

    def _load(self, file: str, workers: int) -> tuple[str, str]:
        with zipfile.ZipFile(self._store / file) as archive:
            manifest = json.loads(archive.read("MAR-INF/MANIFEST.json"))["model"]
            sample = json.loads(archive.read("sample.json"))
        pair = manifest["modelName"], manifest["modelVersion"]
        digest = hashlib.sha256((self._store / file).read_bytes()).hexdigest()
        self.models[pair] = _Model(file, digest, sample, workers)
        self.defaults.setdefault(*pair)
        return pair

    def _list(self, _: Request) -> Response:
        models = [
            {"modelName": name, "modelUrl": self.models[name, version].file} for name, version in self.defaults.items()
        ]
        return JSONResponse({"models": sorted(models, key=lambda item: item["modelName"])})

    def _register(self, request: Request) -> Response:
        file = request.query_params["url"]
        if not (self._store / file).is_file():
            return _problem(404, "ModelNotFoundException", f"Model not found at: {file}")
        if any(model.file == file for model in self.models.values()):
            return _problem(409, "ConflictStatusException", f"Model at {file} is already registered")
        workers = int(request.query_params.get("initial_workers", "0"))
        name, version = self._load(file, workers)
        return _status(f'Model "{name}" Version: {version} registered with {workers} initial workers')

    def _describe(self, request: Request) -> Response:
        pair = self._pair(request)
        if pair not in self.models:
            return _unknown(pair)
        model, behavior = self.models[pair], self.behavior
        ready = model.workers if behavior.ready is None else min(behavior.ready, model.workers)
        ready = 0 if behavior.dying else ready
        workers = [
            {
                "id": str(9000 + number),
                "startTime": "2026-01-01T00:00:00.000Z",
                "status": "READY" if number < ready else "UNLOADING",
                "memoryUsage": 0,
                "pid": len(self.requests) if behavior.dying else os.getpid(),
                "gpu": False,
                "gpuUsage": "N/A",
            }
            for number in range(model.workers)
        ]
        document = {
            "modelName": pair[0],
            "modelVersion": pair[1],
            "modelUrl": model.file,
            "runtime": "python",
            "minWorkers": model.workers,
            "maxWorkers": model.workers,
            "batchSize": 4,
            "maxBatchDelay": 1,
            "loadedAtStartup": True,
            "workers": workers,
            "jobQueueStatus": {"remainingCapacity": 64, "pendingRequests": behavior.pending},
        }
        return JSONResponse([document])

    def _scale(self, request: Request) -> Response:
        pair = self._pair(request)
        if pair not in self.models:
            return _unknown(pair)
        if self.behavior.scale_status is not None:
            message = f"Failed to start workers for model {pair[0]} version: {pair[1]}"
            return _problem(self.behavior.scale_status, "InternalServerException", message)
        self.models[pair].workers = int(request.query_params["min_worker"])
        return JSONResponse({"status": "Processing worker updates..."}, 202)

    def _set_default(self, request: Request) -> Response:
        pair = self._pair(request)
        if pair not in self.models:
            return _unknown(pair)
        self.defaults[pair[0]] = pair[1]
        return _status(f'Default version successfully updated for model "{pair[0]}" to "{pair[1]}"')

    def _unregister(self, request: Request) -> Response:
        pair = self._pair(request)
        if pair not in self.models:
            return _unknown(pair)
        if self.defaults[pair[0]] == pair[1]:
            if any(name == pair[0] and version != pair[1] for name, version in self.models):
                message = f"Cannot remove default version for model {pair[0]}"
                return _problem(403, "InvalidModelVersionException", message)
            del self.defaults[pair[0]]
        del self.models[pair]
        return _status(f'Model "{pair[0]}" unregistered')

    def _pair(self, request: Request) -> tuple[str, str]:
        name = request.path_params["name"]
        return name, request.path_params.get("version", self.defaults.get(name, ""))

    async def _predict(self, request: Request) -> Response:
        await request.body()
        pair = self._pair(request)
        if pair not in self.models:
            return _unknown(pair)
        self.predictions[pair] += 1
        with _locked(self.busy_file):
            await asyncio.sleep(self.behavior.prediction_delay)
        if self.closing is not None and self.closing.exists():
            return _problem(503, "ServiceUnavailableException", "stopping")
        if self.behavior.prediction_status is not None:
            return _problem(self.behavior.prediction_status, "InternalServerException", "Prediction failed")
        model = self.models[pair]
        identity = {"name": pair[0], "version": pair[1], "sha256": model.sha256}
        return JSONResponse(model.sample | {"model": identity} | self.behavior.prediction)

    async def _metrics(self, _: Request) -> Response:
        lines = [
            f'ts_inference_requests_total{{model_name="{name}",model_version="{version}",hostname="fake",}} {count}.0'
            for (name, version), count in self.predictions.items()
        ]
        return PlainTextResponse("\n".join([*lines, self.behavior.metrics]) + "\n")

    async def _behave(self, request: Request) -> Response:
        for name, value in (await request.json()).items():
            setattr(self.behavior, name, value)
        return Response(status_code=204)


class Running(FakeTorchServe):
    """A fake server that listens in a thread of this process."""

    def __init__(self, store: Path, management: Path, files: Sequence[str] = (), workers: int = 1) -> None:
        super().__init__(store, files, workers)
        self.inference = management.with_name("inference.sock")
        self._sockets = [_unix(path) for path in (management, self.inference, management.with_name("metrics.sock"))]
        self._server = _server(self.app)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)

    def _run(self) -> None:
        with asyncio.Runner() as runner:  # it cancels requests that are still waiting at the end
            self._loop = runner.get_loop()
            self._loop.set_exception_handler(lambda *_: None)  # as in `_serve`
            runner.run(self._server.serve(sockets=self._sockets))

    def die(self) -> None:
        """Abort every connection and close every socket, as the kernel does when a process is killed."""
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._abort)
        self._thread.join(timeout=10)
        assert not self._thread.is_alive()

    def _abort(self) -> None:
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        self._server.should_exit = self._server.force_exit = True


@contextmanager
def running(store: Path, management: Path, *files: str, workers: int = 1) -> Iterator[Running]:
    """Run a fake server in a thread.

    Parameters
    ----------
    store
        Model store: the folder of the archives.
    management
        Unix socket to create for the management API; those of the other APIs are beside it.
    files
        Archives to load at the start.
    workers
        Workers of each version that is loaded at the start.
    """
    server = Running(store, management, files, workers)
    try:
        yield server
    finally:
        server.die()


def command(configuration: Path) -> list[str]:
    """Return the command of a fake server as a process; it reads a TorchServe configuration."""
    return [sys.executable, str(Path(__file__).resolve()), str(configuration)]


@contextmanager
def _locked(path: Path | None) -> Iterator[None]:
    """Hold the lock that a worker holds during a batch; see `handlers.worker.busy`."""
    with open(path, "ab") if path else contextlib.nullcontext() as file:  # noqa: PTH123
        if file is not None:
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


def _path(variable: str) -> Path | None:
    return Path(os.environ[variable]) if variable in os.environ else None


def _status(text: str) -> Response:
    return JSONResponse({"status": text})


def _problem(code: int, kind: str, message: str) -> Response:
    return JSONResponse({"code": code, "type": kind, "message": message}, code)


def _unknown(pair: tuple[str, str]) -> Response:
    message = f"Model version: {pair[1]} does not exist for model: {pair[0]}"
    return _problem(404, "ModelVersionNotFoundException", message)


def _server(app: Callable[..., Awaitable[None]]) -> uvicorn.Server:
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment]
    return server


def _unix(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


def _configured(file: Path) -> tuple[FakeTorchServe, list[socket.socket]]:
    """Return the server that a TorchServe configuration describes, and its listening sockets."""
    lines = file.read_text().splitlines()
    values = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    files = [item.partition("=")[2] for item in values["load_models"].split(",")]
    assert all((Path(values["model_store"]) / file / "MAR-INF").is_dir() for file in files), "archives are unpacked"
    fake = FakeTorchServe(Path(os.environ["RADSERVE_INDEX"]).parent, files, int(values["default_workers_per_model"]))
    names = ("management", "inference", "metrics")
    return fake, [_unix(Path(values[f"{name}_address"].removeprefix("unix:"))) for name in names]


async def _serve(fake: FakeTorchServe, sockets: list[socket.socket]) -> None:
    await _server(fake.app).serve(sockets=sockets)


if __name__ == "__main__":
    asyncio.run(_serve(*_configured(Path(sys.argv[1]))))
