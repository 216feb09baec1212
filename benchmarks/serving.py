"""What serving costs: TorchServe under the supervisor against the same pipeline in process, in one run.

    uv run python benchmarks/serving.py --films ../shared/data/chest_xray_original

Closed loop: each of N clients (threads of this process, on the same cores) posts a film, waits for the
answer, posts the next. In process: one process a core, one thread each, batches of eight, no HTTP. Both
take turns in several rounds, since machines are noisy; the table gives the median round.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Load:
    """One closed loop: films a second, and latencies in ms."""

    rate: float
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    process: psutil.Process
    seconds_to_ready: float


def free_ports(count: int) -> list[int]:
    """Find free ports."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


@contextmanager
def serving(model: str, store: Path) -> Iterator[Server]:
    """Start `radserve serve` and wait until it calls itself ready."""
    port, health, metrics = free_ports(3)
    command = [sys.executable, "-m", "radserve", "serve", "--models", model, "--model-store", str(store)]
    command += ["--port", str(port), "--health-port", str(health), "--metrics-port", str(metrics)]
    start = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, cwd=ROOT)
        try:
            while not _ready(health):
                if process.poll() is not None:
                    log.seek(0)
                    raise SystemExit(log.read().decode())
                time.sleep(0.02)
            yield Server(f"http://127.0.0.1:{port}", psutil.Process(process.pid), time.perf_counter() - start)
        finally:
            process.terminate()
            process.wait()


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200
    except httpx.TransportError:
        return False


def closed_loop(url: str, model: str, films: Sequence[bytes], clients: int, seconds: float) -> Load:
    """Drive the server with `clients` loops for some seconds."""
    turn = itertools.cycle(films)
    lock = threading.Lock()
    latencies: list[float] = []
    end = time.perf_counter() + seconds
    where = urlsplit(url)
    assert where.hostname is not None

    def loop() -> None:
        connection = http.client.HTTPConnection(where.hostname or "", where.port)
        while time.perf_counter() < end:
            with lock:
                film = next(turn)
            start = time.perf_counter()
            connection.request("POST", f"/predictions/{model}", film)
            response = connection.getresponse()
            body = response.read()
            if response.status != 200:
                raise SystemExit(f"answered {response.status}: {body[:300]!r}")
            latencies.append(time.perf_counter() - start)

    threads = [threading.Thread(target=loop) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - start
    return _load(latencies, elapsed)


def _load(latencies: Sequence[float], elapsed: float) -> Load:
    cuts = statistics.quantiles(latencies, n=100)
    return Load(len(latencies) / elapsed, cuts[49] * 1e3, cuts[94] * 1e3, cuts[98] * 1e3)


def in_process(archive: Path, films: Sequence[bytes], processes: int, batch: int, seconds: float) -> Load:
    """Run the pipeline without HTTP in some processes of one thread each; latency is that of a batch."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
        barrier = context.Barrier(processes)
        results = context.Queue()
        arguments = (Path(folder), list(films), batch, seconds, barrier, results)
        workers = [context.Process(target=_work, args=arguments) for _ in range(processes)]
        for item in workers:
            item.start()
        done = [results.get() for _ in workers]
        for item in workers:
            item.join()
    latencies = [value for each, _ in done for value in each]
    load = _load(latencies, max(elapsed for _, elapsed in done))
    return Load(load.rate * batch, load.p50, load.p95, load.p99)


def _work(folder: Path, films: list[bytes], batch: int, seconds: float, barrier: Any, results: Any) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    from handlers import recipe
    from handlers.pipeline import Pipeline
    from handlers.program import Program

    torch.set_num_threads(1)
    pipeline = Pipeline(recipe.load(folder / "archive.yaml"), Program(folder / "program.pt2"), batch=batch)
    turn = itertools.cycle(films)
    pipeline([next(turn) for _ in range(batch)])
    barrier.wait()
    latencies = []
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        pipeline([next(turn) for _ in range(batch)])
        latencies.append(time.perf_counter() - begin)
    results.put((latencies, time.perf_counter() - start))


def memory(process: psutil.Process) -> dict[str, float]:
    """Proportional set size by kind of process, in MB."""
    sizes: dict[str, list[float]] = {"supervisor": [process.memory_full_info().pss / 1e6]}
    for child in process.children(recursive=True):
        kind = "java" if "java" in child.name() else "worker"
        sizes.setdefault(kind, []).append(child.memory_full_info().pss / 1e6)
    return {kind: max(values) for kind, values in sizes.items()} | {"all": sum(map(sum, sizes.values()))}


def median(loads: Sequence[Load]) -> Load:
    """Pick the median round by rate."""
    return sorted(loads, key=lambda load: load.rate)[len(loads) // 2]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=Path, required=True, help="folder of images")
    parser.add_argument("--model", default="chest-xray-cnn")
    parser.add_argument("--model-store", type=Path, default=ROOT / "model_store")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--warm-up", type=float, default=15.0, help="seconds; Java compiles meanwhile")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    options = parser.parse_args()
    films = [path.read_bytes() for path in sorted(options.films.rglob("*")) if path.is_file()]
    index = json.loads((options.model_store / "index.json").read_bytes())
    (entry,) = [item for item in index["archives"] if item["name"] == options.model]
    figures = measure(options, films, options.model_store / entry["file"])
    report(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def measure(options: argparse.Namespace, films: Sequence[bytes], archive: Path) -> dict[str, Any]:
    """Take all figures."""
    cores = len(os.sched_getaffinity(0))
    served: dict[int, list[Load]] = {1: [], 8: [], 32: []}
    alone, full = [], []
    with serving(options.model, options.model_store) as server:
        closed_loop(server.url, options.model, films, 8, options.warm_up)
        for _ in range(options.rounds):
            alone.append(in_process(archive, films, 1, 1, options.seconds))
            full.append(in_process(archive, films, cores, 8, options.seconds))
            for clients, loads in served.items():
                loads.append(closed_loop(server.url, options.model, films, clients, options.seconds))
        used = memory(server.process)
    return {
        "films": len(films),
        "cores": cores,
        "seconds_to_ready": server.seconds_to_ready,
        "memory_mb": used,
        "in_process": {"one": asdict(median(alone)), "all_cores_batch_8": asdict(median(full))},
        "served": {clients: asdict(median(loads)) for clients, loads in served.items()},
        "ratio": {clients: median(loads).rate / median(full).rate for clients, loads in served.items()},
    }


def report(figures: dict[str, Any]) -> None:
    """Print the figures as text."""
    print(f"{figures['films']} films, {figures['cores']} cores, start to ready {figures['seconds_to_ready']:.1f} s")
    print("memory (PSS, MB):", {key: round(value) for key, value in figures["memory_mb"].items()})
    print(f"{'':34}{'films/s':>9}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'ratio':>7}")
    rows: list[tuple[str, Any, float | None]] = [
        (f"in process, {name}", load, None) for name, load in figures["in_process"].items()
    ]
    rows += [(f"served, concurrency {key}", load, figures["ratio"][key]) for key, load in figures["served"].items()]
    for name, load, share in rows:
        cells = "".join(f"{load[key]:9.1f}" for key in ("rate", "p50", "p95", "p99"))
        print(f"{name:34}{cells}" + ("" if share is None else f"{share:7.2f}"))


if __name__ == "__main__":
    main()
