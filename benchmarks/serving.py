"""What serving costs: each archive under TorchServe against the same handler in process, in one run.

    python -m benchmarks.serving --images 'chest-xray-cnn=../shared/data/chest_xray_original' --json figures.json

Closed loop: each of N clients (threads of this process, on the same cores) posts an image, waits for the
answer, posts the next. In process: the handler called directly, without HTTP. Both take turns in several rounds,
since machines are noisy; the table gives the median round. One model at a time is served, so that each has the machine
for itself; its images are those of --images, or else the sample in its archive, over and over.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from glob import glob
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks import inprocess
from benchmarks.inprocess import Way
from benchmarks.load import Image, Load, closed_loop, median
from benchmarks.server import Launched, launch
from handlers.errors import RadServeError
from radserve.host.resources import cores, plan
from radserve.torchserve.verified_models import VerifiedModel, select

ROOT = Path(__file__).resolve().parent.parent
CLIENTS = (1, 8, 32)
_GPU_IN_USE = 100e6
"""Bytes; a worker on a GPU takes more than that for its context alone."""


def main() -> None:
    """Measure and print; a model that cannot be measured is said, and the others go on."""
    options = _options()
    if options.device == "cuda":
        _require_cuda()
    try:
        served = select(options.model_store, options.models)
    except RadServeError as error:
        sys.exit(str(error))
    chosen = _chosen(options.images, [item.entry.name for item in served])
    figures: dict[str, Any] = {"device": _device(options.device), "cores": cores(), "models": {}}
    print(f"{figures['device']}, {figures['cores']} cores\n")
    for item in served:
        name = f"{item.entry.name}/{item.entry.version}"
        images = chosen.get(item.entry.name) or [Image(item.recipe.sample, item.sample)]
        try:
            found = measure(options, item, images)
        except (RadServeError, RuntimeError) as error:
            found = {"error": str(error)}
        figures["models"][name] = found
        print(table(name, found), flush=True)
        if options.json:
            options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if any("error" in found for found in figures["models"].values()):
        sys.exit(1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[], metavar="NAME", help="by default all that are built")
    parser.add_argument("--model-store", type=Path, default=ROOT / "model_store")
    parser.add_argument(
        "--images",
        action="append",
        default=[],
        metavar="[NAME=]PATH",
        help="folder, or pattern in quotes, for one model or for all; may be given again",
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--warm-up", type=float, default=15.0, help="seconds; Java compiles meanwhile")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    return parser.parse_args()


def _require_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        sys.exit("--device cuda: torch finds no CUDA device here, so nothing was measured.")


def _device(device: str) -> str:
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()


def _chosen(arguments: Sequence[str], names: Sequence[str]) -> dict[str, list[Image]]:
    """Read the images of each model for which some were given."""
    chosen: dict[str, list[Image]] = {}
    for argument in arguments:
        name, separator, pattern = argument.partition("=")
        if separator and name not in names:
            sys.exit(f"--images {argument}: {name!r} is none of the models {', '.join(names)}.")
        pattern = pattern if separator else argument
        pattern = f"{pattern}/**" if Path(pattern).is_dir() else pattern
        found = glob(pattern, recursive=True)  # noqa: PTH207  # Path.glob takes no absolute pattern
        images = [Image(path, Path(path).read_bytes()) for path in sorted(found) if Path(path).is_file()]
        if not images:
            sys.exit(f"--images {argument}: no file there.")
        chosen |= dict.fromkeys([name] if separator else names, images)
    return chosen


def measure(options: argparse.Namespace, item: VerifiedModel, images: Sequence[Image]) -> dict[str, Any]:
    """Take all figures of one archive."""
    name, share = item.entry.name, plan(1, cores())
    seconds, device = options.seconds, options.device
    with tempfile.TemporaryDirectory() as scratch:
        with zipfile.ZipFile(options.model_store / item.entry.file) as packed:
            packed.extractall(scratch)
        folder = Path(scratch)
        batch = yaml.safe_load((folder / "model-config.yaml").read_bytes())["batchSize"]
        ways = [Way(1, 1, 1), Way(share.workers, share.threads, batch)]
        alone: dict[Way, list[Load]] = {way: [] for way in ways}
        served: dict[int, list[Load]] = {clients: [] for clients in CLIENTS}
        with _serving(options, f"{name}/{item.entry.version}", folder / "log") as server:
            closed_loop(server.url, name, images, max(CLIENTS), options.warm_up)
            for _ in range(options.rounds):
                for way, loads in alone.items():
                    loads.append(inprocess.measure(folder, device, images, way, seconds))
                for clients, loads in served.items():
                    loads.append(closed_loop(server.url, name, images, clients, seconds))
            used = memory(psutil.Process(server.process.pid))
    full = median(alone[ways[-1]]).rate
    return {
        "images": len(images),
        "archive_sha256": item.entry.sha256,
        "seconds_to_ready": server.seconds,
        "memory_mb": used,
        "in_process": {str(way): asdict(median(loads)) for way, loads in alone.items()},
        "served": {str(clients): asdict(median(loads)) for clients, loads in served.items()},
        "ratio": {str(clients): median(loads).rate / full for clients, loads in served.items()},
    }


@contextmanager
def _serving(options: argparse.Namespace, model: str, log: Path) -> Iterator[Launched]:
    """Serve one model on the device that was asked for, and make sure of that."""
    words = ("--models", model, "--startup-timeout", "300")
    if options.device == "cpu":
        hidden = dict(os.environ) | {"CUDA_VISIBLE_DEVICES": ""}
        with launch(options.model_store, log, *words, environment=hidden, patience=300) as server:
            yield server
        return
    before = _free()
    with launch(options.model_store, log, *words, patience=300) as server:
        if before - _free() < _GPU_IN_USE:
            raise RuntimeError("The server is ready, but its workers hold no memory of the GPU: they run on the CPU.")
        yield server


def _free() -> float:
    """Count the free bytes of the GPU."""
    import torch

    return float(torch.cuda.mem_get_info()[0])


def memory(process: psutil.Process) -> dict[str, float]:
    """Proportional set size by kind of process, in MB: the largest of each kind, and all together."""
    sizes: dict[str, list[float]] = {"supervisor": [process.memory_full_info().pss / 1e6]}
    for child in process.children(recursive=True):
        kind = "java" if "java" in child.name() else "worker"
        sizes.setdefault(kind, []).append(child.memory_full_info().pss / 1e6)
    return {kind: max(values) for kind, values in sizes.items()} | {"all": sum(map(sum, sizes.values()))}


def table(name: str, found: Mapping[str, Any]) -> str:
    """Write the figures of one model as Markdown."""
    if "error" in found:
        return f"## {name}\n\nNOT MEASURED: {found['error']}\n"
    used = ", ".join(f"{kind} {size:.0f}" for kind, size in found["memory_mb"].items())
    lines = [
        f"## {name}",
        "",
        f"{found['images']} images, start to ready {found['seconds_to_ready']:.1f} s, memory (PSS, MB): {used}",
        "",
        "| way | images/s | p50 ms | p95 ms | p99 ms | of all in process |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(f"in process, {way}", load, "") for way, load in found["in_process"].items()]
    ratio = found["ratio"]
    lines += [_row(f"served, concurrency {key}", load, f"{ratio[key]:.2f}") for key, load in found["served"].items()]
    return "\n".join([*lines, ""])


def _row(way: str, load: Mapping[str, float], share: str) -> str:
    cells = " | ".join(f"{load[key]:.1f}" for key in ("rate", "p50", "p95", "p99"))
    return f"| {way} | {cells} | {share} |"


if __name__ == "__main__":
    main()
