"""Process that runs Ray Serve in place of TorchServe, and routes requests to its replicas.

It answers on the sockets of TorchServe's APIs what proxy and supervisor send there, so that both work unchanged.
"""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import ray
import uvicorn
import yaml
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from radserve import logging as log
from radserve.host import http_server, unix_socket
from radserve.host import ray as ray_host
from radserve.rayserve.metrics import exposition
from radserve.rayserve.worker import Worker

logger = logging.getLogger("radserve.rayserve.engine")  # `__name__` is `__main__`

_MARGIN: Final = 10.0
"""Seconds that a request may take beyond its batch; the proxy waits for 5 seconds more."""
_NO_CACHE: Final = {
    "Pragma": "no-cache",
    "Cache-Control": "no-cache; no-store, must-revalidate, private",
    "Expires": "Thu, 01 Jan 1970 00:00:00 UTC",
}
"""Headers of TorchServe's responses."""
_REQUESTS: Final = "ts_inference_requests_total"
_OPTIONS: Final = {**http_server.OPTIONS, "http": "h11", "backlog": 1024}
"""Of uvicorn: nginx and the supervisor are the only clients, and nginx limits their number."""
_NO_LOGS: Final = {"log_level": "ERROR", "enable_access_log": False}


class Version:
    """A served version: its replicas, and the requests that wait for them."""

    def __init__(self, name: str, version: str, folder: str, workers: int) -> None:
        self.name, self.version, self.folder, self.workers = name, version, folder, workers
        self.app = f"{name}-{version}"
        self.settings = yaml.safe_load((Path(folder) / "model-config.yaml").read_bytes())
        self.accepted = self.open = 0
        self.handle: Any = None
        self.message = ""

    def target(self, gpus: float, reports: str, listed: list[str]) -> Any:
        """Return what Ray Serve is to run."""
        deployment = serve.deployment(Worker).options(
            name="worker",
            num_replicas=self.workers,
            max_ongoing_requests=2 * self.settings["batchSize"],
            health_check_period_s=1,
            logging_config=_NO_LOGS,
            ray_actor_options={"num_cpus": 0, "num_gpus": gpus},
        )
        app = deployment.bind(self.folder, self.settings, reports, listed)
        return serve.RunTarget(target=app, name=self.app, route_prefix=None)

    async def predict(self, body: bytes, headers: dict[str, str]) -> Response:
        """Respond to a request; 503 if its replica ends meanwhile, or none becomes ready in time; 500 for a fault."""
        self.accepted += 1
        self.open += 1
        try:
            async with asyncio.timeout(self.settings["responseTimeout"] + _MARGIN):
                status, media_type, content, more = await self.handle.respond.remote((body, headers))
        except RayTaskError:
            logger.exception("%s %s: the handler failed", self.name, self.version)
            return _problem(500, "Internal server error", f"The handler of {self.name} {self.version} failed.")
        except (RayError, RayServeException, TimeoutError) as error:
            kind = type(error).__name__
            detail = f"The worker of {self.name} {self.version} ended or did not respond ({kind}). Retry."
            return _problem(503, "Service unavailable", detail)
        finally:
            self.open -= 1
        return Response(content, status, {"content-type": media_type, **_NO_CACHE, **more})

    def describe(self, replicas: dict[str, int]) -> dict[str, Any]:
        """Return the description of the version in TorchServe's management API."""
        states = ["READY" if state == "RUNNING" else "UNLOADING" for state, n in replicas.items() for _ in range(n)]
        workers = [{"id": str(index), "pid": -1, "status": state} for index, state in enumerate(states)]
        names = {"modelName": self.name, "modelVersion": self.version, "minWorkers": self.workers}
        return {**names, "workers": workers, "jobQueueStatus": {"pendingRequests": self.open}}


class Engine(asyncio.DatagramProtocol):
    """Answers on the sockets, and receives the workers' reports."""

    def __init__(self, versions: list[Version], kinds: dict[str, list[dict[str, Any]]]) -> None:
        self._versions = {(item.name, item.version): item for item in versions}
        self._defaults = {item.name: item for item in versions}  # the newest one: they are sorted
        items = [(kind, item) for kind, group in kinds.items() for item in group]
        self._labels = {item["name"]: item["dimensions"] for _, item in items}
        self._kinds = {item["name"]: kind for kind, item in items}
        self._labels[_REQUESTS], self._kinds[_REQUESTS] = ["model_name", "model_version"], "counter"
        self._values: Counter[tuple[str, tuple[str, ...]]] = Counter()

    def datagram_received(self, data: bytes, _: Any) -> None:
        """Receive a report of a worker."""
        report = json.loads(data)
        if "line" in report:
            print(report["line"], file=sys.stderr, flush=True)  # noqa: T201 - a line of the log
            return
        series = report["metric"], tuple(report["labels"])
        self._values[series] = report["value"] + (self._values[series] if report["kind"] == "counter" else 0)

    def routes(self) -> list[Route]:
        """Return the parts of TorchServe's APIs that exist."""
        routes = [Route("/ping", _ping), Route("/metrics", self._show_metrics)]
        for path in ("/predictions/{name}", "/explanations/{name}"):
            routes += [Route(path + end, self._predict, methods=["POST", "PUT"]) for end in ("", "/{version}")]
        routes.append(Route("/models/{name}/{version}", self._describe))
        routes.append(Route("/models/{name}/{version}/set-default", self._set_default, methods=["PUT"]))
        return routes

    def _find(self, request: Request) -> Version:
        name, version = request.path_params["name"], request.path_params.get("version")
        served = self._versions.get((name, version)) if version else self._defaults.get(name)
        if served is None:
            raise HTTPException(404, f"Unknown model {name} {version or ''}.")
        return served

    async def _predict(self, request: Request) -> Response:
        version = self._find(request)
        explain = request.url.path.startswith("/explanations/")
        headers = {**request.headers, "explain": str(explain)}
        return await version.predict(await request.body(), headers)

    async def _set_default(self, request: Request) -> Response:
        version = self._find(request)
        self._defaults[version.name] = version
        return JSONResponse({})

    async def _describe(self, request: Request) -> Response:
        version = self._find(request)
        applications = (await asyncio.to_thread(serve.status)).applications
        worker = applications[version.app].deployments["worker"]
        if worker.message not in ("", version.message):
            logger.warning("%s %s: Ray Serve reports: %s", version.name, version.version, worker.message)
        version.message = worker.message
        return JSONResponse([version.describe(worker.replica_states)])

    async def _show_metrics(self, _: Request) -> Response:
        values = dict(self._values)
        for pair, item in self._versions.items():
            values[_REQUESTS, pair] = item.accepted
        return PlainTextResponse(exposition(values, self._labels, self._kinds))


def _problem(status: int, title: str, detail: str) -> Response:
    content = {"status": status, "title": title, "detail": detail}
    return JSONResponse(content, status, _NO_CACHE, "application/problem+json")


async def _ping(_: Request) -> Response:
    return JSONResponse({"status": "Healthy"})


async def run(settings: dict[str, Any], kinds: dict[str, list[dict[str, Any]]]) -> None:
    """Start Ray and the versions, and serve until the process ends; `kinds` are the metrics of `metrics.yaml`."""
    versions = [Version(*item) for item in settings["versions"]]
    listed = [f"{kind}:{item['name']}" for kind, items in kinds.items() for item in items]
    engine = Engine(versions, kinds)
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: engine, settings["reports"], family=socket.AF_UNIX)
    handles = await asyncio.to_thread(start, versions, settings, listed)
    signal.signal(signal.SIGTERM, _stop)  # replaces Ray's handler, which logs stack traces
    for item, handle in zip(versions, handles, strict=True):
        item.handle = handle
    with ExitStack() as stack:
        listeners = [stack.enter_context(unix_socket.listen(Path(path))) for path in settings["sockets"]]
        config = uvicorn.Config(Starlette(routes=engine.routes()), lifespan="off", **_OPTIONS)
        await http_server.Server(config).serve(listeners)


def _stop(*_: Any) -> None:
    """End with all processes of Ray, because the supervisor has ended: some of them would remain for a minute."""
    ray_host.end_children()
    os._exit(0)


def start(versions: list[Version], settings: dict[str, Any], listed: list[str]) -> Any:
    """Start Ray on loopback and deploy the versions; return their handles, whose replicas still start."""
    ray_host.start(settings["ray"] | {"log_to_driver": False, "logging_level": logging.ERROR})
    serve.start(proxy_location="Disabled", logging_config=_NO_LOGS)
    gpus = int(ray.cluster_resources().get("GPU", 0))
    share = ray_host.gpu_share(sum(item.workers for item in versions), gpus)
    targets = [item.target(share, settings["reports"], listed) for item in versions]
    return serve.run_many(targets, wait_for_applications_running=False)


def main() -> None:
    """Run; the argument has the settings as JSON."""
    log.configure()
    for name in ("ray", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)
    settings = json.loads(sys.argv[1])
    asyncio.run(run(settings, yaml.safe_load(Path(settings["metrics"]).read_bytes())["model_metrics"]))


if __name__ == "__main__":
    main()
