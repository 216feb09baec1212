"""Scores small images in moto's S3 while workers and the driver of the job are killed, and counts the rows.

    python -m benchmarks.score --model-store model_store --inputs 100000

Random workers are killed (SIGKILL) after random numbers of shards, 20 times by default, and the driver after equal
parts of the shards, twice. The same call is then repeated until it succeeds, at most 20 times beside those after a
kill. One image of 50 is damaged. Exit code 1 if a row is missing or there twice, or if other images than the damaged
ones have no label. The images are put into moto's memory before it serves them by HTTP. moto, the driver and its
workers share the cores.
"""

import argparse
import io
import logging
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import boto3
import botocore.exceptions
import numpy as np
import psutil
from PIL import Image
from pyarrow import parquet

from benchmarks.server import CHECKOUT, free_ports
from radserve.host.resources import cores

BUCKET: Final = "images"
OUTPUT: Final = "scores"
MANIFEST: Final = "images.csv"
INVALID: Final = 2  # exit code after which the same call fails again
DAMAGED: Final = 50  # one image of this number
STARTS: Final = 20  # of the driver, beside those after it was killed


@dataclass
class Run:
    """What happened to a job."""

    driver_kills: int = 0
    worker_kills: int = 0
    starts: int = 0


def main() -> None:
    """Upload, score, kill, verify."""
    options = _options()
    with _moto(options.inputs) as s3:
        begin, run = time.monotonic(), Run()
        _score(s3, options, run)
        seconds = time.monotonic() - begin
        verified = subprocess.run(_command("--verify", f"s3://{OUTPUT}"), check=False).returncode
        rows = list(_rows(s3))
    files = Counter(name for name, _ in rows)
    wanted = {f"s3://{BUCKET}/{number:06}.png" for number in range(options.inputs)}
    damaged = {f"s3://{BUCKET}/{number:06}.png" for number in range(0, options.inputs, DAMAGED)}
    labels = len({name for name, label in rows if label is None} ^ damaged)
    missing, duplicate = len(wanted - files.keys()), files.total() - len(files)
    print(
        f"{options.inputs} images, {cores()} cores, load {os.getloadavg()[0]:.1f}: {seconds:.0f} s with {run.starts} "
        f"starts, {run.driver_kills} drivers and {run.worker_kills} workers killed; {missing} rows missing, "
        f"{duplicate} duplicate, {len(files.keys() - wanted)} of other images, "
        f"{labels} with or without a label by mistake, --verify {verified}."
    )
    if run.driver_kills < options.driver_kills or (options.workers > 1 and run.worker_kills < options.worker_kills):
        sys.exit("The job ended before everything was killed: give it more inputs, or smaller shards.")
    sys.exit(1 if missing or duplicate or verified or labels or len(files) != len(wanted) else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-store", type=Path, required=True)
    parser.add_argument("--model", default="cifar10-lenet")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--shard-size", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2, help="1 runs without Ray: only the driver is killed")
    parser.add_argument("--driver-kills", type=int, default=2)
    parser.add_argument("--worker-kills", type=int, default=20)
    return parser.parse_args()


@contextmanager
def _moto(count: int) -> Iterator[Any]:
    """Run moto's S3 with the images in a process of its own, and set the variables that find it."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    os.environ |= {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    os.environ |= {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(count, port))
    process.start()
    try:
        s3 = boto3.client("s3")
        while process.is_alive():
            with suppress(botocore.exceptions.EndpointConnectionError):
                s3.head_bucket(Bucket=OUTPUT)
                break
            time.sleep(0.5)
        yield s3
    finally:
        process.kill()
        process.join()


def _serve(count: int, port: int) -> None:
    """Fill the memory of moto, which an upload by HTTP does at 40 to 100 images per second, and serve it.

    A manifest lists the images, because moto needs half a second for each page of a bucket with so many objects.
    """
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
    from moto.s3.models import s3_backends
    from werkzeug.serving import run_simple

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for bucket in (BUCKET, OUTPUT):
        backend.create_bucket(bucket, "us-east-1")
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (count, 4, 4), np.uint8)):
        backend.put_object(BUCKET, f"{number:06}.png", _png(pixels)[: 60 if number % DAMAGED == 0 else None])
    names = "\n".join(f"{number:06}.png" for number in range(count))
    backend.put_object(BUCKET, MANIFEST, f"path\n{names}\n".encode())
    MotoRequestHandler.protocol_version = "HTTP/1.1"  # keeps connections
    run_simple("127.0.0.1", port, create_backend_app("s3"), threaded=True, request_handler=MotoRequestHandler)


def _png(pixels: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels.repeat(8, 0).repeat(8, 1)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "radserve", "score", *map(str, arguments)]


def _score(s3: Any, options: argparse.Namespace, run: Run) -> None:
    """Repeat the call until it succeeds."""
    arguments = [f"s3://{BUCKET}/{MANIFEST}", f"s3://{OUTPUT}", "--model", options.model, "--workers", options.workers]
    command = _command(*arguments, "--model-store", options.model_store.absolute(), "--shard-size", options.shard_size)
    shards = -(-options.inputs // options.shard_size)
    drivers = [shards * number // (options.driver_kills + 1) for number in range(1, options.driver_kills + 1)]
    workers = sorted(random.choices(range(shards), k=options.worker_kills), reverse=True)
    while run.starts < STARTS + run.driver_kills:
        run.starts, before = run.starts + 1, _receipts(s3)
        with _ended(subprocess.Popen([*command, "--domain", "off"], cwd=CHECKOUT)) as driver:
            while driver.poll() is None:
                receipts = _receipts(s3)
                if run.driver_kills < len(drivers) and receipts > drivers[run.driver_kills]:
                    driver.kill()
                    run.driver_kills += 1
                    print(f"driver killed with {receipts} of {shards} receipts", file=sys.stderr)
                elif workers and receipts > workers[-1] and _kill_worker(driver):
                    workers.pop()
                    run.worker_kills += 1
                time.sleep(random.uniform(0, 2))
        if driver.returncode == 0:
            return
        if driver.returncode == INVALID or (driver.returncode > 0 and _receipts(s3) == before):
            sys.exit("The call cannot succeed; see its message above.")
    sys.exit(f"The job did not succeed in {run.starts} starts.")


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    with process:
        try:
            yield process
        finally:
            process.kill()


def _kill_worker(driver: subprocess.Popen[bytes]) -> bool:
    """Kill a random worker that is busy or idle; return whether there was one."""
    with suppress(psutil.Error):
        children = psutil.Process(driver.pid).children(recursive=True)
        workers = [child for child in children if "MapWorker" in " ".join(child.cmdline())]
        if workers:
            random.choice(workers).kill()
            return True
    return False


def _receipts(s3: Any) -> int:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=OUTPUT, Prefix="receipts/")
    return sum(page["KeyCount"] for page in pages)


def _rows(s3: Any) -> Iterator[tuple[str, str | None]]:
    """Yield file and label of each row."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=OUTPUT, Prefix="results/"):
        for item in page["Contents"]:
            content = s3.get_object(Bucket=OUTPUT, Key=item["Key"])["Body"].read()
            table = parquet.read_table(io.BytesIO(content), columns=["file", "label"])
            yield from zip(*(table.column(name).to_pylist() for name in ("file", "label")), strict=True)


if __name__ == "__main__":
    main()
