"""Measures the latency that the gateway adds to a prediction, on the loopback interface.

    python -m benchmarks.gateway --model chest-xray-cnn --json results.json

One TorchServe is called directly and through gateways, by one client and by eight concurrent ones. Blocks of requests
alternate over the routes within each round, in alternating order, so that other load on the machine affects all routes.
The added latency is the median over rounds of the differences of their medians; percentiles are over all rounds. The
clients share the cores with the servers.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from benchmarks import routes
from benchmarks.load import Image, connect, post
from benchmarks.server import CHECKOUT, free_ports, launch, wait_until_ready
from radserve.client import Client
from radserve.torchserve.verified_models import select

DIRECT = "directly"
ROUTES = {"gateway": "none", "gateway, history in SQLite": "sqlite:{folder}/history.sqlite3"}
"""Name of a route -> history of its gateway."""
CLIENTS = (1, 8)

Times = dict[str, list[list[float]]]
"""Route -> milliseconds of the requests of each round."""


def main() -> None:
    """Measure and print."""
    options = routes.options(__doc__, requests=64)
    (model,) = select(options.model_store, [options.model])
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        server = stack.enter_context(launch(options.model_store, folder / "log", "--models", options.model))
        targets = {DIRECT: f"{server.url}{model.path}"}
        for route, history in ROUTES.items():
            url = stack.enter_context(launch_gateway(server.url, server.health_url, history.format(folder=folder)))
            targets[route] = f"{url}/api{model.path}"
        sample = Image(model.recipe.sample, model.sample)
        results = {
            clients: summary(_measure(targets, sample, clients, options.rounds, options.requests))
            for clients in CLIENTS
        }
    routes.report(options, results, table(results))


@contextmanager
def launch_gateway(server: str, supervisor: str, history: str) -> Iterator[str]:
    """Start a gateway, wait until it is ready, and stop it at the end of the block; the value is its URL."""
    (port,) = free_ports(1)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RADSERVE")}
    own = {"PORT": str(port), "SERVER": server, "SUPERVISOR": supervisor, "HISTORY": history, "RATE": "1000000/second"}
    variables = clean | {f"RADSERVE_GATEWAY_{key}": value for key, value in own.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway"], cwd=CHECKOUT, env=variables, stderr=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        with Client(url, retries=0) as client:
            wait_until_ready(lambda: bool(client.ready()), process, time.monotonic() + 60)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)


def _measure(targets: Mapping[str, str], sample: Image, clients: int, rounds: int, requests: int) -> Times:
    times: Times = {route: [] for route in targets}
    for number in range(-1, rounds):  # the first round is a warm-up
        routes = list(targets) if number % 2 else list(targets)[::-1]
        for route in routes:
            block = _block(targets[route], sample, clients, requests // clients)
            if number >= 0:
                times[route].append(block)
    return times


def _block(target: str, sample: Image, clients: int, requests: int) -> list[float]:
    """Post the sample from concurrent clients; return the milliseconds of each request."""

    def run(_: int) -> list[float]:
        connection = connect(target)
        connection.connect()
        try:
            return [post(connection, urlsplit(target).path, sample) * 1e3 for _ in range(requests)]
        finally:
            connection.close()

    with ThreadPoolExecutor(clients) as pool:
        return [value for times in pool.map(run, range(clients)) for value in times]


def summary(times: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, dict[str, float]]:
    """Compute the percentiles of each route over all rounds, and its added latency."""
    direct = [statistics.median(block) for block in times[DIRECT]]
    results = {}
    for route, rounds in times.items():
        p50, p95 = np.percentile([value for block in rounds for value in block], [50, 95])
        added = [statistics.median(block) - base for block, base in zip(rounds, direct, strict=True)]
        results[route] = {"p50": float(p50), "p95": float(p95), "added": statistics.median(added)}
    return results


def table(results: Mapping[int, Mapping[str, Mapping[str, float]]]) -> str:
    """Render the results as Markdown."""
    lines = ["| clients | route | p50 ms | p95 ms | added ms |", "|---|---|---|---|---|"]
    lines += [
        f"| {clients} | {route} | {row['p50']:.2f} | {row['p95']:.2f} | {row['added']:+.2f} |"
        for clients, routes in results.items()
        for route, row in routes.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
