"""Measures a container image: size by layer, startup time, memory at rest and under load.

    scripts/build-images server
    python -m benchmarks.container radserve/server:0.1.0
    python -m benchmarks.container IMAGE --engine 'podman --runtime runc' --run '--ulimit nofile=4096:4096'

The container runs read-only, with its own user, on the host network, with all archives of the image. Memory is the
proportional set size (PSS) of all its processes, so pages shared between workers count once.
"""

import argparse
import json
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx
import psutil

from benchmarks.load import Image, closed_loop
from benchmarks.server import CHECKOUT, free_ports
from benchmarks.serving import memory

_NAME: Final = "radserve-benchmark"
_STARTUP_TIMEOUT: Final = 300.0
_REST_SECONDS: Final = 5.0
_UNITS: Final = {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}


def main() -> None:
    """Measure and print."""
    options = _options()
    print(table(options.image, measure(options)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("--engine", type=shlex.split, default=["docker"], metavar="ARGS", help="docker or podman")
    parser.add_argument("--run", type=shlex.split, default=[], metavar="ARGS", help="options of ENGINE run")
    parser.add_argument("--model", default="chest-xray-cnn", help="model under load")
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0, help="duration of the load")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure one image."""
    sample = CHECKOUT / "archives" / options.model / "sample.png"
    starts = []
    for number in range(options.starts):
        with _container(options) as (url, seconds, process):
            starts.append(seconds)
            if number == options.starts - 1:
                time.sleep(_REST_SECONDS)
                rest = memory(process)
                load = closed_loop(
                    url, options.model, [Image(sample.name, sample.read_bytes())], options.clients, options.seconds
                )
                busy = memory(process)
    return {"layers": layers(options), "starts": starts, "rest": rest, "load": busy, "rate": load.rate}


def layers(options: argparse.Namespace) -> list[tuple[str, int]]:
    """Return command and size in bytes of each layer that is not empty, from the base upwards."""
    text = _run([*options.engine, "history", "--no-trunc", "--format", "json", options.image])
    history = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]
    sizes = [
        (str(item.get("CreatedBy", "")), _bytes(item.get("Size", item.get("size", 0)))) for item in reversed(history)
    ]
    return [(created_by, size) for created_by, size in sizes if size]


def _bytes(size: str | int) -> int:
    """Parse a size from docker (4.1GB) or podman (bytes)."""
    if isinstance(size, int):
        return size
    number = size.rstrip("kKMGB")
    return round(float(number) * _UNITS[size.removeprefix(number).upper()])


@contextmanager
def _container(options: argparse.Namespace) -> Iterator[tuple[str, float, psutil.Process]]:
    port, health, metrics = map(str, free_ports(3))
    command = [*options.engine, "run", "--detach", "--rm", "--name", _NAME, "--network", "host", "--read-only"]
    command += ["--tmpfs", "/tmp:mode=1777,exec", "--env", "RADSERVE_RUNTIME=/tmp/radserve", *options.run]
    command += ["--env", "RADSERVE_HOST=127.0.0.1", options.image, "serve"]
    command += ["--port", port, "--health-port", health, "--metrics-port", metrics]
    start = time.monotonic()
    _run(command)
    try:
        _wait(f"http://127.0.0.1:{health}/ready", start + _STARTUP_TIMEOUT)
        seconds = time.monotonic() - start
        pid = int(_run([*options.engine, "inspect", "--format", "{{.State.Pid}}", _NAME]))
        yield f"http://127.0.0.1:{port}", seconds, psutil.Process(pid)
    finally:
        _run([*options.engine, "stop", _NAME])


def _wait(url: str, deadline: float) -> None:
    while True:
        try:
            if httpx.get(url).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass  # not listening yet
        if time.monotonic() > deadline:
            raise TimeoutError(f"{url}: not ready within {_STARTUP_TIMEOUT:g} s")
        time.sleep(0.05)


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def table(image: str, results: dict[str, Any]) -> str:
    """Render the results as text."""
    lines = [image, ""]
    lines += [f"  {size / 1e6:8.1f} MB  {_short(created_by)}" for created_by, size in results["layers"]]
    lines += [f"  {sum(size for _, size in results['layers']) / 1e6:8.1f} MB  total", ""]
    lines += ["  container start to ready: " + ", ".join(f"{seconds:.1f}" for seconds in results["starts"]) + " s"]
    lines += [f"  memory at rest, MB:    {_memory(results['rest'])}"]
    lines += [f"  memory under load, MB: {_memory(results['load'])}   ({results['rate']:.0f} images/s)"]
    return "\n".join(lines)


def _short(created_by: str) -> str:
    command = created_by.removeprefix("/bin/sh -c").replace("#(nop)", "").split()
    return " ".join(command)[:90]


def _memory(used: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.0f}" for name, value in used.items())


if __name__ == "__main__":
    main()
