"""Measures the work of an image with one worker, checks a queueing model with it, and sizes a fleet.

    python -m benchmarks.scaling --images ../shared/data/chest_xray_original --rates 10 1000 100000

1. Serves the model with one worker, and measures the processor time of workers and of all else per image, for single
   images and for full batches. This gives the parameters of `benchmarks.queueing`.
2. Compares the model with measured closed loops, with one and with two workers. Those with two are no input.
3. Simulates an instance with `--cores` cores, and computes how many are necessary for each of `--rates`.

Run it on a quiet machine: other work stretches the measured times, but not the simulated ones.
"""

import argparse
import json
import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import psutil

from benchmarks.load import Image, Load, closed_loop
from benchmarks.queueing import Server, closed, highest_rate
from benchmarks.server import CHECKOUT, Launched, descendants, is_worker, launch
from radserve.host.resources import plan

CLIENTS: Final = (1, 2, 8, 32)
_SIMULATED: Final = 5000
_BATCH: Final = 8
_LCU_BYTES: Final = 1e9
"""Bytes per hour of a load balancer's capacity unit (https://aws.amazon.com/elasticloadbalancing/pricing/)."""


@dataclass(frozen=True)
class Work:
    """Processor seconds per image: of workers, of other processes of the server (Java), and of the clients."""

    workers: float
    server: float
    clients: float


@dataclass(frozen=True)
class Fleet:
    """What a rate requires.

    Attributes
    ----------
    rate
        Images per second.
    instances
        Number of instances, with one to spare.
    instance_cost, balancer_cost
        Dollars per hour.
    network
        Gbit/s of requests.
    """

    rate: float
    instances: int
    instance_cost: float
    balancer_cost: float
    network: float


def parameters(cores: int, single: Work, batches: Work) -> Server:
    """Derive the model of one worker from the work of single images and of images in full batches."""
    start = max(0.0, (single.workers - batches.workers) * _BATCH / (_BATCH - 1))
    return Server(cores, 1, _BATCH, batches.server + batches.clients, start, single.workers - start)


def fleet(rate: float, instance_rate: float, size: float, price: float, unit_price: float) -> Fleet:
    """Size a fleet for images of `size` bytes, at `price` dollars per hour for an instance."""
    instances = math.ceil(rate / instance_rate) + 1
    traffic = rate * size
    units = traffic * 3600 / _LCU_BYTES
    return Fleet(rate, instances, instances * price, units * unit_price, traffic * 8 / 1e9)


def main() -> None:
    """Measure, compare, size, and print."""
    options = _options()
    images = [Image(path.name, path.read_bytes()) for path in sorted(options.images.rglob("*.*"))]
    cores = len(os.sched_getaffinity(0))
    single, full, one = _measure(options, images, workers=1)
    server = parameters(cores, single, full)
    _, _, two = _measure(options, images, workers=2)
    measured = {1: one, 2: two}
    print(f"Processor time per image: alone {_ms(single)}; in batches {_ms(full)}\n\n{_comparison(server, measured)}")
    large = replace(server, cores=options.cores, workers=plan(1, options.cores).workers, receive=full.server)
    load = highest_rate(large, options.p99)
    size = sum(len(image.content) for image in images) / len(images)
    fleets = [fleet(rate, load.rate, size, options.price, options.unit_price) for rate in options.rates]
    print(
        f"\nAn instance with {options.cores} cores: {load.rate:.0f}/s with a p99 of {load.p99:.0f} ms "
        f"(capacity {large.capacity:.0f}/s), images of {size / 1e3:.0f} kB\n\n{_fleets(fleets)}"
    )
    if options.json:
        report = {
            "server": asdict(server),
            "measured": {str(n): {str(c): asdict(load) for c, load in loads.items()} for n, loads in measured.items()},
            "instance": asdict(load),
            "fleets": [asdict(each) for each in fleets],
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="chest-xray-cnn")
    parser.add_argument("--model-store", type=Path, default=CHECKOUT / "model_store")
    parser.add_argument("--images", type=Path, required=True, help="folder of images for the model")
    parser.add_argument("--seconds", type=float, default=8.0, help="duration of each measurement")
    parser.add_argument("--warm-up", type=float, default=15.0, help="duration of the warm-up, in which Java compiles")
    parser.add_argument("--rates", type=float, nargs="+", default=[10, 1000, 100_000], help="images per second")
    parser.add_argument("--cores", type=int, default=8, help="cores of an instance")
    parser.add_argument("--p99", type=float, default=100.0, help="largest 99th percentile of the latency in ms")
    parser.add_argument("--price", type=float, default=0.4032, help="dollars per hour of an instance")
    parser.add_argument("--unit-price", type=float, default=0.008, help="dollars per capacity unit of a load balancer")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    return parser.parse_args()


def _measure(options: argparse.Namespace, images: Sequence[Image], workers: int) -> tuple[Work, Work, dict[int, Load]]:
    """Measure the work of single images and of full batches, and closed loops by number of clients."""
    arguments = ("--models", options.model, "--workers", str(workers), "--domain", "warn")
    with (
        tempfile.TemporaryDirectory() as folder,
        launch(options.model_store, Path(folder) / "log", *arguments, patience=300) as server,
    ):
        closed_loop(server.url, options.model, images, max(CLIENTS), options.warm_up)
        works, loads = {}, {}
        for clients in CLIENTS:
            before = _times(server)
            load = closed_loop(server.url, options.model, images, clients, options.seconds)
            works[clients] = Work(*((_times(server) - before) / load.count).tolist())
            loads[clients] = load
        return works[min(CLIENTS)], works[max(CLIENTS)], loads


def _times(server: Launched) -> npt.NDArray[np.float64]:
    """Return the processor times of a server's workers, of its other processes, and of this process."""
    process = psutil.Process(server.process.pid)
    children = descendants(process)
    others = [process, *(child for child in children if not is_worker(child))]
    return np.array(
        [sum(map(_time, group)) for group in (filter(is_worker, children), others, [psutil.Process()])], np.float64
    )


def _time(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _ms(work: Work) -> str:
    values = (f"{kind} {seconds * 1e3:.1f}" for kind, seconds in asdict(work).items())
    return f"{', '.join(values)} ms"


def _comparison(server: Server, measured: dict[int, dict[int, Load]]) -> str:
    lines = [
        "| workers | clients | measured /s | model /s | measured p50 ms | model p50 ms |",
        "|---|---|---|---|---|---|",
    ]
    for workers, loads in measured.items():
        for clients, load in loads.items():
            model = closed(replace(server, workers=workers), clients, _SIMULATED)
            cells = f"{load.rate:.0f} | {model.rate:.0f} | {load.p50:.1f} | {model.p50:.1f}"
            lines.append(f"| {workers} | {clients} | {cells} |")
    return "\n".join(lines)


def _fleets(fleets: Sequence[Fleet]) -> str:
    lines = [
        "| images/s | instances | $/h | load balancer $/h | $ per million images | requests Gbit/s |",
        "|---|---|---|---|---|---|",
    ]
    for each in fleets:
        million = (each.instance_cost + each.balancer_cost) / (each.rate * 3600) * 1e6
        cells: list[Any] = [f"{each.rate:,.0f}", f"{each.instances:,}", f"{each.instance_cost:,.2f}"]
        cells += [f"{each.balancer_cost:,.2f}", f"{million:.2f}", f"{each.network:,.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
