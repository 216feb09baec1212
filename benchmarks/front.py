"""What the front adds to a request: nginx before one TorchServe, which is asked directly as well.

It is measured with and without TLS, and once with the model's traffic split: then nginx looks the version up for each
request and tells a listener what came of it.

    python -m benchmarks.front --model cifar10-lenet --json figures.json

One client with one connection asks the same question by turns over each way, so that whatever else the machine does
is in all of them; what the front adds is the median over the rounds of the differences of their medians. The key is
warm: nginx has the supervisor's word about it in its cache, but for a question every five seconds.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.server import free_ports, launch
from radserve.auth import key_file
from radserve.auth.api_keys import Role
from radserve.host.resources import cores
from radserve.host.run_directory import RunDirectory
from radserve.proxy.traffic_split import Routing, write
from radserve.torchserve.verified_models import select

ROOT = Path(__file__).resolve().parent.parent
DIRECT = "directly"
SPLIT = "nginx with a split"
LISTENER = """
import asyncio, sys
from pathlib import Path
from radserve.runtime import Runtime
from radserve.traffic import Traffic, Window
async def listen():
    async with Traffic(Runtime(Path(sys.argv[1])).traffic, Window().add):
        await asyncio.Event().wait()
asyncio.run(listen())
"""


def main() -> None:
    """Measure and print."""
    options = _options()
    (served,) = select(options.model_store, [options.model])
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        keys = folder / "keys.json"
        key = key_file.create(keys, "benchmark", [Role.PREDICT])
        words = ("--models", options.model, "--keys", str(keys), "--runtime", str(folder / "runtime"))
        server = stack.enter_context(launch(options.model_store, folder / "log", *words))
        urls = {DIRECT: server.url}
        for way, tls in (("nginx", False), (SPLIT, False), ("nginx with TLS", True)):
            behind = [str(urlsplit(url).port) for url in (server.url, server.health_url, server.metrics_url)]
            own = folder / way.replace(" ", "-")
            urls[way] = stack.enter_context(_front(own, folder / "runtime", behind, tls=tls))
            if way == SPLIT:
                write(Routing({options.model: {served.entry.version: 100}}), RunDirectory(own))
                stack.enter_context(_listener(own))
        rounds = _measure(urls, served.path, served.sample, key, options.rounds, options.requests)
    figures = {"cores": cores(), "load": os.getloadavg()[0], "model": options.model, "ms": summary(rounds)}
    print(table(figures["ms"]))
    print(f"\n{figures['cores']} cores; load of the machine while measuring: {figures['load']:.1f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cifar10-lenet", help="the quicker, the less its noise covers what is added")
    parser.add_argument("--model-store", type=Path, default=ROOT / "model_store")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--requests", type=int, default=60, help="of each way in each round")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    return parser.parse_args()


@contextmanager
def _front(folder: Path, runtime: Path, behind: list[str], *, tls: bool) -> Iterator[str]:
    """Run a front of its own; its runtime folder is apart, since each of them holds one front."""
    folder.mkdir(mode=0o700)
    (folder / "ready").symlink_to(runtime / "ready")
    ports = list(map(str, free_ports(3)))
    names = (
        "--port",
        "--management-port",
        "--metrics-port-public",
        "--inference-port",
        "--health-port",
        "--metrics-port",
    )
    words = [word for pair in zip(names, ports + behind, strict=True) for word in pair]
    words += ["--runtime", str(folder), "--response-timeout", "60", "--access-log", str(folder / "access.log")]
    words += ["--rate", "10000"]
    if tls:
        words += ["--certificate", str(folder / "tls.crt"), "--certificate-key", str(folder / "tls.key")]
        made = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ]
        made += ["-subj", "/CN=localhost", "-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")]
        subprocess.run(made, check=True, capture_output=True)
    process = subprocess.Popen(["radserve", "front", *words], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        url = f"{'https' if tls else 'http'}://127.0.0.1:{ports[0]}"
        _await(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)


@contextmanager
def _listener(folder: Path) -> Iterator[None]:
    """Listen to what nginx tells, in a process of its own, as the supervisor does."""
    process = subprocess.Popen([sys.executable, "-c", LISTENER, str(folder)], cwd=ROOT)
    try:
        while not RunDirectory(folder).traffic.exists():
            time.sleep(0.01)
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while True:
        connection = _connect(url)
        try:
            connection.request("GET", "/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{url}: no front there.")
        time.sleep(0.05)


def _connect(url: str) -> http.client.HTTPConnection:
    where = urlsplit(url)
    if where.scheme == "http":
        return http.client.HTTPConnection(str(where.hostname), where.port, timeout=60)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(str(where.hostname), where.port, timeout=60, context=context)


def _measure(
    urls: Mapping[str, str], path: str, sample: bytes, key: str, rounds: int, requests: int
) -> list[dict[str, float]]:
    """Return the median of each way in each round, in ms."""
    connections = {way: _connect(url) for way, url in urls.items()}
    found: list[dict[str, float]] = []
    for number in range(-2, rounds):  # two to warm up
        taken: dict[str, list[float]] = {way: [] for way in urls}
        for _ in range(requests):
            for way, connection in connections.items():
                taken[way].append(_ask(connection, path, sample, key))
        if number >= 0:
            found.append({way: statistics.median(times) for way, times in taken.items()})
    for connection in connections.values():
        connection.close()
    return found


def _ask(connection: http.client.HTTPConnection, path: str, sample: bytes, key: str) -> float:
    start = time.perf_counter()
    connection.request("POST", path, sample, {"X-API-Key": key})
    response = connection.getresponse()
    body = response.read()
    taken = (time.perf_counter() - start) * 1e3
    if response.status != 200:
        raise RuntimeError(f"{path}: answered {response.status}: {body[:300]!r}")
    return taken


def summary(rounds: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Sum up the rounds: the median of each way, what it adds to asking directly, and the ratio."""
    return {
        way: {
            "p50": statistics.median(item[way] for item in rounds),
            "added": statistics.median(item[way] - item[DIRECT] for item in rounds),
            "ratio": statistics.median(item[way] / item[DIRECT] for item in rounds),
        }
        for way in rounds[0]
    }


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Write the figures as Markdown."""
    lines = ["| asked | p50 ms | added ms | ratio |", "|---|---|---|---|"]
    lines += [f"| {way} | {row['p50']:.2f} | {row['added']:+.2f} | {row['ratio']:.3f} |" for way, row in found.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
