"""What the image costs: its size by layer, its start until ready, its memory at rest and under load.

    scripts/build-images server
    python -m benchmarks.container radserve/server:0.1.0
    python -m benchmarks.container IMAGE --engine 'podman --runtime runc' --run '--ulimit nofile=4096:4096'

The container runs read-only, as its user, on the network of this machine, with all archives of the image. Memory is the
proportional set size (PSS) of all its processes, so that pages shared between workers count once.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from benchmarks.load import Image, closed_loop
from benchmarks.server import free_ports
from benchmarks.serving import memory

ROOT: Final = Path(__file__).resolve().parent.parent
_NAME: Final = "radserve-benchmark"
_PATIENCE: Final = 300.0
_AT_REST: Final = 5.0
_UNITS: Final = {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}


def main() -> None:
    """Measure and print."""
    options = _options()
    print(table(options.image, measure(options)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("--engine", type=shlex.split, default=["docker"], metavar="WORDS", help="docker or podman")
    parser.add_argument("--run", type=shlex.split, default=[], metavar="WORDS", help="more options of ENGINE run")
    parser.add_argument("--model", default="chest-xray-cnn", help="that is asked under load")
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0, help="of load")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Take all figures of one image."""
    sample = ROOT / "archives" / options.model / "sample.png"
    starts = []
    for number in range(options.starts):
        with _container(options) as (url, seconds, process):
            starts.append(seconds)
            if number == options.starts - 1:
                time.sleep(_AT_REST)
                rest = memory(process)
                load = closed_loop(
                    url, options.model, [Image(sample.name, sample.read_bytes())], options.clients, options.seconds
                )
                busy = memory(process)
    return {"layers": layers(options), "starts": starts, "rest": rest, "load": busy, "rate": load.rate}


def layers(options: argparse.Namespace) -> list[tuple[str, int]]:
    """List what made each layer, and its bytes, from the base up; empty ones are left out."""
    text = _run([*options.engine, "history", "--no-trunc", "--format", "json", options.image])
    found = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]
    sizes = [
        (str(item.get("CreatedBy", "")), _bytes(item.get("Size", item.get("size", 0)))) for item in reversed(found)
    ]
    return [(made, size) for made, size in sizes if size]


def _bytes(size: str | int) -> int:
    """Read a size as docker (4.1GB) or podman (bytes) writes it."""
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
    began = time.monotonic()
    _run(command)
    try:
        _wait(f"http://127.0.0.1:{health}/ready", began + _PATIENCE)
        seconds = time.monotonic() - began
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
            pass  # nobody listens yet
        if time.monotonic() > deadline:
            raise TimeoutError(f"{url}: not ready within {_PATIENCE:g} s")
        time.sleep(0.05)


def _run(words: list[str]) -> str:
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout


def table(image: str, found: dict[str, Any]) -> str:
    """Render the figures as text."""
    lines = [image, ""]
    lines += [f"  {size / 1e6:8.1f} MB  {_short(made)}" for made, size in found["layers"]]
    lines += [f"  {sum(size for _, size in found['layers']) / 1e6:8.1f} MB  in all", ""]
    lines += ["  container start to ready: " + ", ".join(f"{seconds:.1f}" for seconds in found["starts"]) + " s"]
    lines += [f"  memory at rest, MB:    {_memory(found['rest'])}"]
    lines += [f"  memory under load, MB: {_memory(found['load'])}   ({found['rate']:.0f} answers/s)"]
    return "\n".join(lines)


def _short(made: str) -> str:
    words = made.removeprefix("/bin/sh -c").replace("#(nop)", "").split()
    return " ".join(words)[:90]


def _memory(used: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.0f}" for name, value in used.items())


if __name__ == "__main__":
    main()
