"""What the gateway adds to a prediction: one TorchServe, asked directly and by way of gateways on the same loopback.

    python -m benchmarks.gateway --model chest-xray-cnn --json figures.json

Blocks of requests alternate over the ways within each round, in turned order from round to round, so that whatever else
the machine does is in all of them; with one client, and with eight at a time. What is added is the median over rounds
of the differences of their medians; the percentiles are of all rounds together. The client shares the cores.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from benchmarks.server import free_ports, launch
from radserve.client import Client
from radserve.errors import ClientError
from radserve.host.resources import cores
from radserve.torchserve.verified_models import select

ROOT = Path(__file__).resolve().parent.parent
DIRECT = "directly"
WAYS = {"gateway": "none", "gateway, history in SQLite": "sqlite:{folder}/history.sqlite3"}
"""How it is asked -> where that gateway keeps results."""
CLIENTS = (1, 8)

Times = dict[str, list[list[float]]]
"""Way -> for each round the milliseconds of its requests."""


def main() -> None:
    """Measure and print."""
    options = _options()
    (served,) = select(options.model_store, [options.model])
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        server = stack.enter_context(launch(options.model_store, folder / "log", "--models", options.model))
        targets = {DIRECT: f"{server.url}{served.path}"}
        for way, history in WAYS.items():
            url = stack.enter_context(_gateway(server.url, server.health_url, history.format(folder=folder)))
            targets[way] = f"{url}/api{served.path}"
        found = {
            clients: summary(_measure(targets, served.sample, clients, options.rounds, options.requests))
            for clients in CLIENTS
        }
    print(table(found))
    figures = {"cores": cores(), "load": os.getloadavg()[0], "model": options.model, "ms": found}
    print(f"\n{options.model}, {figures['cores']} cores; load of the machine while measuring: {figures['load']:.1f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cifar10-lenet", help="the quicker, the less its noise covers what is added")
    parser.add_argument("--model-store", type=Path, default=ROOT / "model_store")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--requests", type=int, default=64, help="of each way in each round")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    return parser.parse_args()


@contextmanager
def _gateway(server: str, supervisor: str, history: str) -> Iterator[str]:
    (port,) = free_ports(1)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RADSERVE")}
    own = {"PORT": str(port), "SERVER": server, "SUPERVISOR": supervisor, "HISTORY": history, "RATE": "1000000/second"}
    variables = clean | {f"RADSERVE_GATEWAY_{key}": value for key, value in own.items()}
    process = subprocess.Popen([sys.executable, "-m", "gateway"], cwd=ROOT, env=variables, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        _await(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    with Client(url, retries=0) as client:
        while True:
            try:
                if client.ready():
                    return
            except ClientError:
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{url}: no gateway there.")
            time.sleep(0.05)


def _measure(targets: Mapping[str, str], sample: bytes, clients: int, rounds: int, requests: int) -> Times:
    found: Times = {way: [] for way in targets}
    for number in range(-1, rounds):  # one to warm up
        ways = list(targets) if number % 2 else list(targets)[::-1]
        for way in ways:
            taken = _block(targets[way], sample, clients, requests // clients)
            if number >= 0:
                found[way].append(taken)
    return found


def _block(target: str, sample: bytes, clients: int, requests: int) -> list[float]:
    """Let clients ask, each over a connection of its own; return the milliseconds of each request."""
    taken: list[float] = []
    failures: list[str] = []
    where = urlsplit(target)

    def ask() -> None:
        connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=60)
        connection.connect()
        for _ in range(requests):
            start = time.perf_counter()
            connection.request("POST", where.path, sample)
            response = connection.getresponse()
            body = response.read()
            taken.append((time.perf_counter() - start) * 1e3)
            if response.status != 200:
                failures.append(f"{target}: answered {response.status}: {body[:300]!r}")
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures or len(taken) != clients * requests:
        raise RuntimeError(failures[0] if failures else f"{target}: not every request was answered.")
    return taken


def summary(found: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, dict[str, float]]:
    """Sum up: percentiles of each way in all rounds together, and what it adds to asking directly."""
    direct = [statistics.median(taken) for taken in found[DIRECT]]
    figures = {}
    for way, rounds in found.items():
        p50, p95 = np.percentile([value for taken in rounds for value in taken], [50, 95])
        added = [statistics.median(taken) - before for taken, before in zip(rounds, direct, strict=True)]
        figures[way] = {"p50": float(p50), "p95": float(p95), "added": statistics.median(added)}
    return figures


def table(found: Mapping[int, Mapping[str, Mapping[str, float]]]) -> str:
    """Write the figures as Markdown."""
    lines = ["| clients | asked | p50 ms | p95 ms | added ms |", "|---|---|---|---|---|"]
    lines += [
        f"| {clients} | {way} | {row['p50']:.2f} | {row['p95']:.2f} | {row['added']:+.2f} |"
        for clients, ways in found.items()
        for way, row in ways.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
