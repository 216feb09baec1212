"""Scores small images in moto's S3 while workers and the driver of the job are killed, and counts the rows.

    python -m benchmarks.score --model-store model_store --inputs 100000

Random workers are killed (SIGKILL) at random times, and the driver after equal parts of the shards: by default, two.
The same call is then repeated until it succeeds, at most 20 times beside those after a kill. One image of 50 is
damaged. Exit code 1 if a row is missing or there twice, or if other images than the damaged ones have no label. moto,
the driver and its workers share the cores.
"""

import argparse
import io
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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

BUCKET: Final = "score"
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
    with tempfile.TemporaryDirectory() as scratch, _moto(Path(scratch)) as s3:
        _upload(s3, options.inputs)
        begin, run = time.monotonic(), Run()
        _score(s3, options, run)
        seconds = time.monotonic() - begin
        verified = subprocess.run(_command("--verify", f"s3://{BUCKET}/out"), check=False).returncode
        rows = list(_rows(s3))
    files = Counter(name for name, _ in rows)
    wanted = {f"s3://{BUCKET}/in/{number:06}.png" for number in range(options.inputs)}
    damaged = {f"s3://{BUCKET}/in/{number:06}.png" for number in range(0, options.inputs, DAMAGED)}
    labels = len({name for name, label in rows if label is None} ^ damaged)
    missing, duplicate = len(wanted - files.keys()), files.total() - len(files)
    print(
        f"{options.inputs} images, {cores()} cores, load {os.getloadavg()[0]:.1f}: {seconds:.0f} s with {run.starts} "
        f"starts, {run.driver_kills} drivers and {run.worker_kills} workers killed; {missing} rows missing, "
        f"{duplicate} duplicate, {len(files.keys() - wanted)} of other images, "
        f"{labels} with or without a label by mistake, --verify {verified}."
    )
    sys.exit(1 if missing or duplicate or verified or labels or len(files) != len(wanted) else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-store", type=Path, required=True)
    parser.add_argument("--model", default="cifar10-lenet")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--shard-size", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2, help="1 runs without Ray: only the driver is killed")
    parser.add_argument("--driver-kills", type=int, default=2)
    parser.add_argument("--seconds-between-kills", type=float, default=20.0, help="mean of an exponential distribution")
    return parser.parse_args()


@contextmanager
def _moto(folder: Path) -> Iterator[Any]:
    """Run moto's S3, and set the variables that find it."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    os.environ |= {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    os.environ |= {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
    with (folder / "moto.log").open("w") as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            s3 = boto3.client("s3")
            while True:
                with suppress(botocore.exceptions.EndpointConnectionError):
                    s3.create_bucket(Bucket=BUCKET)
                    break
                time.sleep(0.5)
            yield s3
        finally:
            process.kill()
            process.wait()


def _upload(s3: Any, count: int) -> None:
    begin = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda number: s3.put_object(**_object(number)), range(count)):
            pass
    print(f"{count} images uploaded in {time.monotonic() - begin:.0f} s", file=sys.stderr)


def _object(number: int) -> dict[str, Any]:
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4), np.uint8).repeat(8, 0).repeat(8, 1)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    content = stream.getvalue()[: 60 if number % DAMAGED == 0 else None]
    return {"Bucket": BUCKET, "Key": f"in/{number:06}.png", "Body": content}


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "radserve", "score", *map(str, arguments)]


def _score(s3: Any, options: argparse.Namespace, run: Run) -> None:
    """Repeat the call until it succeeds."""
    arguments = [f"s3://{BUCKET}/in", f"s3://{BUCKET}/out", "--model", options.model, "--workers", options.workers]
    command = _command(*arguments, "--model-store", options.model_store.absolute(), "--shard-size", options.shard_size)
    shards, kills = -(-options.inputs // options.shard_size), options.driver_kills
    while run.starts < STARTS + run.driver_kills:
        run.starts, before = run.starts + 1, _receipts(s3)
        driver = subprocess.Popen([*command, "--domain", "off"], cwd=CHECKOUT)
        with _killer(driver, options.seconds_between_kills, run):
            while driver.poll() is None:
                if run.driver_kills < kills and _receipts(s3) > shards * (run.driver_kills + 1) // (kills + 1):
                    driver.kill()
                    run.driver_kills += 1
                    print(f"driver killed with {_receipts(s3)} of {shards} receipts", file=sys.stderr)
                time.sleep(0.5)
        if driver.returncode == 0:
            return
        if driver.returncode == INVALID or (driver.returncode > 0 and _receipts(s3) == before):
            sys.exit("The call cannot succeed; see its message above.")
    sys.exit(f"The job did not succeed in {run.starts} starts.")


@contextmanager
def _killer(driver: subprocess.Popen[bytes], mean: float, run: Run) -> Iterator[None]:
    """Kill workers meanwhile, and at last the driver, if it still runs."""
    done = threading.Event()
    thread = threading.Thread(target=_kill_workers, args=(driver, mean, run, done))
    thread.start()
    try:
        yield
    finally:
        done.set()
        driver.kill()
        driver.wait()
        thread.join()


def _kill_workers(driver: subprocess.Popen[bytes], mean: float, run: Run, done: threading.Event) -> None:
    while not done.wait(random.expovariate(1 / mean)):
        with suppress(psutil.Error):
            children = psutil.Process(driver.pid).children(recursive=True)
            workers = [child for child in children if "MapWorker" in " ".join(child.cmdline())]
            if workers:
                random.choice(workers).kill()
                run.worker_kills += 1


def _receipts(s3: Any) -> int:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="out/receipts/")
    return sum(page["KeyCount"] for page in pages)


def _rows(s3: Any) -> Iterator[tuple[str, str | None]]:
    """Yield file and label of each row."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="out/results/"):
        for item in page["Contents"]:
            content = s3.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read()
            table = parquet.read_table(io.BytesIO(content), columns=["file", "label"])
            yield from zip(*(table.column(name).to_pylist() for name in ("file", "label")), strict=True)


if __name__ == "__main__":
    main()
