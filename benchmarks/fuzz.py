"""Damages valid files of every format that the handlers read, and reads the copies within bounded memory and time.

    python -m benchmarks.fuzz                              # 200,000 damaged copies; exit status 1 on any failure
    python -m benchmarks.fuzz --only dicom-rle --mutations 5000 --failures /tmp/failures

A copy is read as a worker reads a request: `handlers.request_body`, then `handlers.formats.decode`, in a child process.
Anything but a picture or a documented rejection is a failure: a crash, a hang, too much memory, another exception, a
status other than 400, 413, 415 or 422, or a message that quotes the file. Copies depend on seed and number only, so
a failure can be repeated. Bombs, files of a few kilobytes that declare as many pixels as allowed, come first.
"""

import argparse
import ctypes
import json
import math
import mmap
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from handlers import request_body
from handlers.errors import RequestError
from handlers.formats.decode import decode
from handlers.formats.image import Image, Limits
from handlers.request_body import BodyLimits
from tests.handlers import fuzz_seeds
from tests.handlers.fuzz_seeds import Seed

LIMITS: Final = BodyLimits(images=8, unzipped=8 << 20, image=Limits(bytes=1 << 20, pixels=1_000_000))
MEMORY: Final = 256 << 20
"""Bytes that a child may allocate besides those of the parent."""
SECONDS: Final = 5
_STATUSES: Final = (400, 413, 415, 422)
_CHUNK: Final = 500
"""Copies per child: native decoders may leak."""
_Value = TypeVar("_Value")
_SHARED: Final = 4096
"""Bytes of memory for the report of a child."""
_LIBC: Final = ctypes.CDLL(None)
BOMB_LIMITS: Final = BodyLimits(pixels=9_000_000, unzipped=32 << 20, image=Limits(bytes=16 << 20, pixels=4_000_000))
MAX_BOMB: Final = 28 * BOMB_LIMITS.image.pixels
"""Bytes that a bomb may take; see `handlers.formats.image.Limits`."""


def flip(data: bytearray, chance: random.Random) -> None:
    """Flip a few bits."""
    for _ in range(chance.choice((1, 1, 2, 8))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def flip_header(data: bytearray, chance: random.Random) -> None:
    """Flip bits near the start."""
    for _ in range(chance.choice((1, 2))):
        data[chance.randrange(min(len(data), 200))] ^= 1 << chance.randrange(8)


def overwrite(data: bytearray, chance: random.Random) -> None:
    """Write a number at the edge of a range."""
    value = chance.choice((0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF))
    width = chance.choice((1, 2, 4))
    start = chance.randrange(len(data))
    data[start : start + width] = (value & (256**width - 1)).to_bytes(width, chance.choice(("big", "little")))


def truncate(data: bytearray, chance: random.Random) -> None:
    """Remove the end."""
    del data[chance.randrange(1, len(data)) :]


def cut_out(data: bytearray, chance: random.Random) -> None:
    """Remove some bytes."""
    start = chance.randrange(len(data))
    del data[start : start + chance.randrange(1, 64)]


def repeat(data: bytearray, chance: random.Random) -> None:
    """Repeat some bytes."""
    start = chance.randrange(len(data))
    data[start:start] = data[start : start + chance.randrange(1, 256)] * chance.choice((1, 2, 40))


MUTATIONS: Final[tuple[Callable[[bytearray, random.Random], None], ...]] = (
    flip, flip, flip_header, overwrite, overwrite, truncate, cut_out, repeat,
)  # fmt: skip


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Return a copy with one kind of damage."""
    copy = bytearray(data)
    chance.choice(MUTATIONS)(copy, chance)
    return bytes(copy)


def damaged_copy(seed: Seed, start: int, number: int) -> bytes:
    """Return a numbered copy of a seed; 0 is the seed itself."""
    if number == 0:
        return seed.finish(seed.content)
    return seed.finish(damaged(seed.content, random.Random(f"{seed.name} {start} {number}")))


class UndocumentedError(Exception):
    """Something other than a picture or a documented rejection."""


def read(data: bytes, headers: Mapping[str, str] | None = None, limits: BodyLimits = LIMITS) -> str:
    """Read one request, and return the kind of outcome of its first image; raises UndocumentedError."""
    return check(decode_all(data, headers or {}, limits), limits)


def decode_all(data: bytes, headers: Mapping[str, str], limits: BodyLimits) -> list[Image | RequestError]:
    """Read the images of one request, like a worker."""
    try:
        body = request_body.read({"body": bytearray(data)}, headers, limits)
    except RequestError as error:
        return [error]
    budget = limits.for_request(time.monotonic() + SECONDS)
    return [_decode(image, budget) for image in body.images]


def _decode(image: Any, limits: Limits) -> Image | RequestError:
    try:
        return image if isinstance(image, RequestError) else decode(image, limits, at_least=(16, 16))
    except RequestError as error:
        return error


def check(images: list[Image | RequestError], limits: BodyLimits) -> str:
    """Return the kind of outcome of the first image; raises UndocumentedError if any is not documented."""
    outcomes = [_rejection(item) if isinstance(item, RequestError) else _check(item, limits.image) for item in images]
    return outcomes[0]


def _check(image: Image, limits: Limits) -> str:
    width, height = image.pixels.size
    is_sized = 0 < width <= image.width and 0 < height <= image.height and image.width * image.height <= limits.pixels
    if image.pixels.mode not in ("L", "RGB", "F") or not is_sized:
        raise UndocumentedError(f"{image.pixels.mode} {image.pixels.size} of {image.width}x{image.height}")
    samples = np.asarray(image.pixels)
    if not (np.isfinite(samples).all() and samples.min() >= 0 and samples.max() <= 255):
        raise UndocumentedError(f"samples from {samples.min()} to {samples.max()}")
    return "picture"


def _rejection(error: RequestError) -> str:
    if error.status not in _STATUSES or "SECRET" in str(error):
        raise UndocumentedError(f"{error.status}: {error}") from error
    return str(error.status)


@dataclass
class Report:
    """Outcomes of the copies of one seed, or of all."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0  # seconds
    peak: int = 0  # bytes that reading one copy added to the memory of the process

    def add(self, other: "Report") -> None:
        """Add the outcomes of another report."""
        self.outcomes += other.outcomes
        self.failures += other.failures
        self.slowest, self.peak = max(self.slowest, other.slowest), max(self.peak, other.peak)


def fuzz(
    seed: Seed, numbers: range, *, start: int = 1, limits: BodyLimits = LIMITS, failures: Path | None = None
) -> Report:
    """Read numbered copies of a seed in child processes; a copy that ends one is a failure, and the next continues."""
    report = Report()
    while numbers:
        with mmap.mmap(-1, _SHARED) as shared:
            pid = os.fork()
            if pid == 0:
                _child(seed, numbers[:_CHUNK], start, limits, shared)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            progress = json.loads(shared[:].rstrip(b"\0"))
        number, reason = progress.pop("number"), progress.pop("error")
        part = Report(**progress | {"outcomes": Counter(progress["outcomes"])})
        if status:
            reason = reason or (signal.Signals(-status).name if status < 0 else f"exit status {status}")
            part.failures.append(f"{seed.name} {start} {number}: {reason}")
            if failures is not None:
                (failures / f"{seed.name}-{start}-{number}").write_bytes(damaged_copy(seed, start, number))
        report.add(part)
        numbers = range(number + 1, numbers.stop)
    return report


def _child(seed: Seed, numbers: range, start: int, limits: BodyLimits, shared: mmap.mmap) -> None:
    """Read the copies and store the progress in shared memory, which survives a crash; never returns."""
    report = Report()

    def store(number: int, error: str = "") -> None:
        text = json.dumps(vars(report) | {"number": number, "error": error[:400]}).encode()
        shared[:] = text.ljust(_SHARED, b"\0")

    status, number = 1, numbers[0]
    try:
        held = _status("VmSize")
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
        for number in numbers:
            data = damaged_copy(seed, start, number)
            store(number)
            signal.alarm(SECONDS)
            images, seconds, peak = measured(partial(decode_all, data, seed.headers, limits))
            signal.alarm(0)
            report.add(Report(Counter([check(images, limits)]), [], seconds, peak))
        store(number)
        status = 0
    except BaseException as error:  # noqa: BLE001 - everything else is a failure of this copy
        store(number, f"{type(error).__name__}: {error}")
    finally:
        os._exit(status)


def measured(function: Callable[[], _Value]) -> tuple[_Value, float, int]:
    """Call a function; return its value, the seconds it took and the bytes that it added to the process at its peak."""
    _LIBC.malloc_trim(0)  # memory that is free but resident would hide what the function takes
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM
    before, start = _status("VmRSS"), time.perf_counter()
    value = function()
    return value, time.perf_counter() - start, max(0, _status("VmHWM") - before)


def _status(key: str) -> int:
    """Return a size from /proc/self/status in bytes."""
    with Path("/proc/self/status").open(encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def explode(bomb: Seed) -> Report:
    """Read a bomb, which fails if it takes more memory than its pixels explain."""
    report = fuzz(bomb, range(1), limits=BOMB_LIMITS)
    if report.peak > MAX_BOMB:
        report.failures.append(f"{bomb.name}: {report.peak / 1e6:.0f} MB")
        report.outcomes.clear()
    return report


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mutations", type=int, default=200_000, help="damaged copies of all files together")
    parser.add_argument("--only", default="", help="prefix of the names of files")
    parser.add_argument("--start", type=int, default=1, help="start value of the random numbers")
    parser.add_argument("--failures", type=Path, help="folder for copies that failed")
    options = parser.parse_args()
    os.environ["RUST_BACKTRACE"] = "0"  # as in a worker

    def chosen(seeds: list[Seed]) -> list[Seed]:
        return [seed for seed in seeds if seed.name.startswith(options.only)]

    seeds = chosen(fuzz_seeds.seeds())
    copies = range(math.ceil(options.mutations / max(1, len(seeds))) + 1)
    for seed in seeds:  # imports everything before the children are forked
        read(seed.finish(seed.content), seed.headers)
    total, started = Report(), time.perf_counter()
    print(f"{'file':<28}{'copies':>8}{'pictures':>10}{'rejected':>10}{'failed':>8}{'slowest ms':>12}{'peak MB':>9}")
    reports = chain(
        ((bomb, explode(bomb)) for bomb in chosen(fuzz_seeds.bombs(BOMB_LIMITS.image.pixels))),
        ((seed, fuzz(seed, copies, start=options.start, failures=options.failures)) for seed in seeds),
    )
    for seed, report in reports:
        _print(seed.name, report)
        total.add(report)
    _print("all", total)
    print(f"{time.perf_counter() - started:.0f} s; outcomes: {dict(total.outcomes)}")
    print("\n".join(total.failures))
    return 1 if total.failures else 0


def _print(name: str, report: Report) -> None:
    pictures, copies = report.outcomes["picture"], report.outcomes.total() + len(report.failures)
    numbers = f"{copies:>8}{pictures:>10}{report.outcomes.total() - pictures:>10}{len(report.failures):>8}"
    print(f"{name:<28}{numbers}{report.slowest * 1000:>12.0f}{report.peak / 1e6:>9.1f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
