"""Measures the latency that the nginx proxy adds to a prediction: without TLS, with TLS, and with a traffic split.

    python -m benchmarks.proxy --model cifar10-lenet --json results.json

With a traffic split, nginx looks up the version of each request and reports the result to a listener. One client with
one connection per route calls the routes in turn, so that other load on the machine affects all routes. The added
latency is the median over rounds of the differences of their medians. The API key is cached by nginx, which asks the
supervisor about it every five seconds.
"""

import asyncio
import multiprocessing
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import routes
from benchmarks.load import Image, connect, post
from benchmarks.server import CHECKOUT, free_ports, launch, wait_until_ready
from radserve.auth import key_file
from radserve.auth.api_keys import Role
from radserve.host.run_directory import RunDirectory
from radserve.proxy.access_events import AccessEvents, TrafficWindow
from radserve.proxy.traffic_split import Routing, write
from radserve.torchserve.verified_models import select

DIRECT = "directly"
SPLIT = "nginx with a split"


def main() -> None:
    """Measure and print."""
    options = routes.options(__doc__, requests=60)
    (model,) = select(options.model_store, [options.model])
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        keys = folder / "keys.json"
        key = key_file.create(keys, "benchmark", [Role.PREDICT])
        arguments = ("--models", options.model, "--keys", str(keys), "--runtime", str(folder / "runtime"))
        server = stack.enter_context(launch(options.model_store, folder / "log", *arguments))
        health_port = str(urlsplit(server.health_url).port)
        urls = {DIRECT: f"unix:{RunDirectory(folder / 'runtime').inference}", "local nginx": server.url}
        for route, tls in (("nginx", False), (SPLIT, False), ("nginx with TLS", True)):
            own = folder / route.replace(" ", "-")
            urls[route] = stack.enter_context(_proxy(own, folder / "runtime", health_port, tls=tls))
            if route == SPLIT:
                write(Routing({options.model: {model.entry.version: 100}}), RunDirectory(own))
                stack.enter_context(_listener(own))
        sample = Image(model.recipe.sample, model.sample)
        rounds = _measure(urls, model.path, sample, key, options.rounds, options.requests)
    results = summary(rounds)
    routes.report(options, results, table(results))


@contextmanager
def _proxy(folder: Path, runtime: Path, health_port: str, *, tls: bool) -> Iterator[str]:
    """Run a proxy with a separate runtime folder, because a folder belongs to one published proxy."""
    folder.mkdir(mode=0o700)
    for name in ("ready", "inference.sock"):
        (folder / name).symlink_to(runtime / name)
    public, management, metrics, scrape = map(str, free_ports(4))
    options = {
        "--port": public,
        "--management-port": management,
        "--metrics-port-public": metrics,
        "--health-port": health_port,
        "--metrics-port": scrape,
        "--runtime": str(folder),
        "--response-timeout": "60",
        "--access-log": str(folder / "access.log"),
        "--rate": "10000",
    }
    if tls:
        certificate, key = str(folder / "tls.crt"), str(folder / "tls.key")
        options |= {"--certificate": certificate, "--certificate-key": key}
        request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        subprocess.run([*request.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    arguments = [part for option in options.items() for part in option]
    process = subprocess.Popen(["radserve", "front", *arguments], cwd=CHECKOUT, stderr=subprocess.DEVNULL)
    try:
        url = f"{'https' if tls else 'http'}://127.0.0.1:{public}"
        wait_until_ready(lambda: _is_ready(url), process, time.monotonic() + 30)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)


@contextmanager
def _listener(folder: Path) -> Iterator[None]:
    """Receive the reports of nginx in a child process, like the supervisor."""
    process = multiprocessing.get_context("spawn").Process(target=_listen, args=(folder,), daemon=True)
    process.start()
    try:
        while not RunDirectory(folder).traffic.exists():
            if not process.is_alive():
                raise RuntimeError(f"The listener exited with code {process.exitcode}.")
            time.sleep(0.01)
        yield
    finally:
        process.terminate()
        process.join(timeout=60)


def _listen(folder: Path) -> None:
    async def run() -> None:
        async with AccessEvents(RunDirectory(folder).traffic, TrafficWindow().add):
            await asyncio.Event().wait()

    asyncio.run(run())


def _is_ready(url: str) -> bool:
    connection = connect(url)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def _measure(
    urls: Mapping[str, str], path: str, sample: Image, key: str, rounds: int, requests: int
) -> list[dict[str, float]]:
    """Return the median of each route in each round, in ms."""
    connections = {route: connect(url) for route, url in urls.items()}
    results: list[dict[str, float]] = []
    for number in range(-2, rounds):  # the first two rounds are a warm-up
        times: dict[str, list[float]] = {route: [] for route in urls}
        for _ in range(requests):
            for route, connection in connections.items():
                times[route].append(post(connection, path, sample, {"X-API-Key": key}) * 1e3)
        if number >= 0:
            results.append({route: statistics.median(values) for route, values in times.items()})
    for connection in connections.values():
        connection.close()
    return results


def summary(rounds: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Compute the median of each route, its added latency, and its ratio to direct calls."""
    return {
        route: {
            "p50": statistics.median(item[route] for item in rounds),
            "added": statistics.median(item[route] - item[DIRECT] for item in rounds),
            "ratio": statistics.median(item[route] / item[DIRECT] for item in rounds),
        }
        for route in rounds[0]
    }


def table(results: Mapping[str, Mapping[str, float]]) -> str:
    """Render the results as Markdown."""
    lines = ["| route | p50 ms | added ms | ratio |", "|---|---|---|---|"]
    lines += [
        f"| {route} | {row['p50']:.2f} | {row['added']:+.2f} | {row['ratio']:.3f} |" for route, row in results.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
