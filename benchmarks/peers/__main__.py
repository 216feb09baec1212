"""Compares RadServe with FastAPI and TorchServe: throughput, latency and processor time.

    python -m benchmarks.peers --images ../shared/data/chest_xray_original --peer fastapi torchserve --code ours plain

All servers run at once, with as many processes as there are cores and one thread each, and are measured in turns: each
round sends the same images to each, from 1, 8 and 32 clients of this process, on the same cores. The table has the
medians of the rounds, and the extremes of the rate. Processor time holds where other processes share the cores.
`--code` is what the peers run for an image (benchmarks/peers/model.py). Uvicorn uses uvloop and httptools where they
are installed: `uv run --with uvloop --with httptools python -m benchmarks.peers ...`.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from glob import glob
from pathlib import Path
from statistics import median

from benchmarks.load import Image, Load, closed_loop
from benchmarks.peers.servers import PEERS, Server, Target, peer, radserve
from benchmarks.server import CHECKOUT
from radserve.torchserve.verified_models import select

CLIENTS = (1, 8, 32)


@dataclass(frozen=True)
class Measurement:
    """One server, some clients, one round."""

    load: Load
    milliseconds: float  # processor time of the server for each image


def main() -> None:
    """Start the servers, measure and print."""
    options = _options()
    (item,) = select(options.model_store, [options.model])
    paths = sorted(filter(os.path.isfile, glob(f"{options.images}/**", recursive=True)))  # noqa: PTH207
    images = [Image(path, Path(path).read_bytes()) for path in paths]
    if not images:
        sys.exit(f"--images {options.images}: no files found.")
    target = Target(item.entry.name, (options.model_store / item.entry.file).resolve(), images[0])
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        for name in ("radserve", *(f"{kind}, {code}" for kind in options.peer for code in options.code)):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            kind, _, code = name.partition(", ")
            starting = peer(kind, code, target, folder) if code else radserve(target, folder, item.entry.version)
            servers[name] = stack.enter_context(starting)
            closed_loop(servers[name].url, target.name, images, 8, options.warm_up)
        results = measure(servers, target.name, images, options.rounds, options.seconds)
    print(f"{len(images)} images, load {os.getloadavg()[0]:.1f}\n\n{table(results)}")
    if options.json:
        document = {
            name: {str(clients): [asdict(each) for each in rounds] for clients, rounds in by_clients.items()}
            for name, by_clients in results.items()
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="folder")
    parser.add_argument("--model", default="chest-xray-cnn", help="a classifier")
    parser.add_argument("--model-store", type=Path, default=CHECKOUT / "model_store")
    parser.add_argument("--peer", nargs="+", choices=sorted(PEERS), default=["fastapi", "torchserve"])
    parser.add_argument("--code", nargs="+", choices=["plain", "ours", "checked"], default=["plain", "ours"])
    parser.add_argument("--seconds", type=float, default=5.0, help="duration of each measurement")
    parser.add_argument("--warm-up", type=float, default=15.0, help="duration of the warm-up of each server")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="file to write all rounds to")
    return parser.parse_args()


Results = Mapping[str, Mapping[int, list[Measurement]]]


def measure(servers: Mapping[str, Server], model: str, images: list[Image], rounds: int, seconds: float) -> Results:
    """Measure all servers in turns, each round in the other direction."""
    results: dict[str, dict[int, list[Measurement]]] = {name: {n: [] for n in CLIENTS} for name in servers}
    for number in range(rounds):
        for clients in CLIENTS:
            for name in list(servers)[:: -1 if number % 2 else 1]:
                before = servers[name].seconds()
                load = closed_loop(servers[name].url, model, images, clients, seconds)
                spent = servers[name].seconds() - before
                results[name][clients].append(Measurement(load, 1e3 * spent / load.count))
    return results


def table(results: Results) -> str:
    """Render as Markdown."""
    lines = [
        "| server, code | clients | images/s (least to most) | p50 ms | p99 ms | CPU ms an image |",
        "|---" * 6 + "|",
    ]
    for name, by_clients in results.items():
        for clients, rounds in by_clients.items():
            rates = [each.load.rate for each in rounds]
            numbers = [
                median(value)
                for value in zip(*((each.load.p50, each.load.p99, each.milliseconds) for each in rounds), strict=True)
            ]
            rate = f"{median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})"
            lines.append(f"| {name} | {clients} | {rate} | " + " | ".join(f"{number:.1f}" for number in numbers) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
