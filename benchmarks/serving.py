"""Compares serving with TorchServe to calling the same handler directly, for each archive.

    python -m benchmarks.serving --images 'chest-xray-cnn=../shared/data/chest_xray_original' --json figures.json

Served: each of N clients (threads of this process, on the same cores) posts an image and waits for the response,
repeatedly. In process: the handler is called directly, without HTTP. Both alternate over several rounds, and the table
shows the median round. Models are served one at a time, with the images of --images or the sample of the archive.
"""

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
from benchmarks.inprocess import Setup
from benchmarks.load import Image, Load, closed_loop, median
from benchmarks.server import CHECKOUT, Launched, descendants, launch
from handlers.errors import RadServeError
from radserve.host.resources import cores, plan
from radserve.torchserve.verified_models import VerifiedModel, select

CLIENTS = (1, 8, 32)
_GPU_IN_USE = 100e6
"""Bytes; the context of a worker on a GPU alone uses more."""


def main() -> None:
    """Measure and print; continues after a model that cannot be measured."""
    options = _options()
    if options.device == "cuda":
        _require_cuda()
    try:
        served = select(options.model_store, options.models)
    except RadServeError as error:
        sys.exit(str(error))
    images_by_model = _images(options.images, [item.entry.name for item in served])
    report: dict[str, Any] = {"device": _device(options.device), "cores": cores(), "models": {}}
    print(f"{report['device']}, {report['cores']} cores\n")
    for item in served:
        name = f"{item.entry.name}/{item.entry.version}"
        images = images_by_model.get(item.entry.name) or [Image(item.recipe.sample, item.sample)]
        try:
            results = measure(options, item, images)
        except (RadServeError, RuntimeError) as error:
            results = {"error": str(error)}
        report["models"][name] = results
        print(table(name, results), flush=True)
        if options.json:
            options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if any("error" in results for results in report["models"].values()):
        sys.exit(1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[], metavar="NAME", help="models (default: all)")
    parser.add_argument("--model-store", type=Path, default=CHECKOUT / "model_store")
    parser.add_argument(
        "--images",
        action="append",
        default=[],
        metavar="[NAME=]PATH",
        help="folder or quoted pattern, for one model or all; repeatable",
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--seconds", type=float, default=8.0, help="duration of each measurement")
    parser.add_argument("--warm-up", type=float, default=15.0, help="duration of the warm-up, in which Java compiles")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file to write the results to")
    return parser.parse_args()


def _require_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        sys.exit("--device cuda: torch found no CUDA device; nothing was measured.")


def _device(device: str) -> str:
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()


def _images(arguments: Sequence[str], names: Sequence[str]) -> dict[str, list[Image]]:
    """Read the images that --images names, by model."""
    images_by_model: dict[str, list[Image]] = {}
    for argument in arguments:
        name, separator, pattern = argument.partition("=")
        if separator and name not in names:
            sys.exit(f"--images {argument}: unknown model {name!r}. Available: {', '.join(names)}.")
        pattern = pattern if separator else argument
        pattern = f"{pattern}/**" if Path(pattern).is_dir() else pattern
        paths = glob(pattern, recursive=True)  # noqa: PTH207  # Path.glob takes no absolute pattern
        images = [Image(path, Path(path).read_bytes()) for path in sorted(paths) if Path(path).is_file()]
        if not images:
            sys.exit(f"--images {argument}: no files found.")
        images_by_model |= dict.fromkeys([name] if separator else names, images)
    return images_by_model


def measure(options: argparse.Namespace, item: VerifiedModel, images: Sequence[Image]) -> dict[str, Any]:
    """Measure one archive."""
    name, share = item.entry.name, plan(1, cores())
    seconds, device = options.seconds, options.device
    with tempfile.TemporaryDirectory() as scratch:
        folder, archive = Path(scratch), options.model_store / item.entry.file
        with zipfile.ZipFile(archive) as packed:
            batch = yaml.safe_load(packed.read("model-config.yaml"))["batchSize"]
        setups = [Setup(1, 1, 1), Setup(share.workers, share.threads, batch)]
        direct: dict[Setup, list[Load]] = {setup: [] for setup in setups}
        served: dict[int, list[Load]] = {clients: [] for clients in CLIENTS}
        with _serving(options, f"{name}/{item.entry.version}", folder / "log") as server:
            closed_loop(server.url, name, images, max(CLIENTS), options.warm_up)
            for _ in range(options.rounds):
                for setup, loads in direct.items():
                    loads.append(inprocess.measure(archive, device, images, setup, seconds))
                for clients, loads in served.items():
                    loads.append(closed_loop(server.url, name, images, clients, seconds))
            used = memory(psutil.Process(server.process.pid))
    full = median(direct[setups[-1]]).rate
    return {
        "images": len(images),
        "archive_sha256": item.entry.sha256,
        "seconds_to_ready": server.seconds,
        "memory_mb": used,
        "in_process": {str(setup): asdict(median(loads)) for setup, loads in direct.items()},
        "served": {str(clients): asdict(median(loads)) for clients, loads in served.items()},
        "ratio": {str(clients): median(loads).rate / full for clients, loads in served.items()},
    }


@contextmanager
def _serving(options: argparse.Namespace, model: str, log: Path) -> Iterator[Launched]:
    """Serve one model, and verify that it runs on the selected device."""
    arguments = ("--models", model, "--startup-timeout", "300")
    if options.device == "cpu":
        hidden = dict(os.environ) | {"CUDA_VISIBLE_DEVICES": ""}
        with launch(options.model_store, log, *arguments, environment=hidden, patience=300) as server:
            yield server
        return
    before = _free()
    with launch(options.model_store, log, *arguments, patience=300) as server:
        if before - _free() < _GPU_IN_USE:
            raise RuntimeError("The workers use no GPU memory, so they run on the CPU.")
        yield server


def _free() -> float:
    """Return the free memory of the GPU in bytes."""
    import torch

    return float(torch.cuda.mem_get_info()[0])


def memory(process: psutil.Process) -> dict[str, float]:
    """Return the proportional set size in MB: the largest of each kind of process, and the total."""
    sizes: dict[str, list[float]] = {"supervisor": [process.memory_full_info().pss / 1e6]}
    for child in descendants(process):
        kind = "java" if "java" in child.name() else "worker"
        sizes.setdefault(kind, []).append(child.memory_full_info().pss / 1e6)
    return {kind: max(values) for kind, values in sizes.items()} | {"all": sum(map(sum, sizes.values()))}


def table(name: str, results: Mapping[str, Any]) -> str:
    """Render the results of a model as Markdown."""
    if "error" in results:
        return f"## {name}\n\nNOT MEASURED: {results['error']}\n"
    used = ", ".join(f"{kind} {size:.0f}" for kind, size in results["memory_mb"].items())
    lines = [
        f"## {name}",
        "",
        f"{results['images']} images, start to ready {results['seconds_to_ready']:.1f} s, memory (PSS, MB): {used}",
        "",
        "| setup | images/s | p50 ms | p95 ms | p99 ms | share of in process |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(f"in process, {setup}", load, "") for setup, load in results["in_process"].items()]
    ratio = results["ratio"]
    lines += [_row(f"served, concurrency {key}", load, f"{ratio[key]:.2f}") for key, load in results["served"].items()]
    return "\n".join([*lines, ""])


def _row(setup: str, load: Mapping[str, float], share: str) -> str:
    cells = " | ".join(f"{load[key]:.1f}" for key in ("rate", "p50", "p95", "p99"))
    return f"| {setup} | {cells} | {share} |"


if __name__ == "__main__":
    main()
