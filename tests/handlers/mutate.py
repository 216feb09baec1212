"""Damages valid files, and decodes the copies in a child process within bounded memory and time.

`python -m tests.handlers.mutate PREFIX COUNT SEED` decodes COUNT damaged copies of each file of `images.seeds` whose
name starts with PREFIX, and prints the outcomes as JSON. A crash or a hang then ends the child, not the test run; the
last line of its standard error names the copy.
"""

import json
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from handlers.errors import RequestError
from handlers.formats.decode import decode
from handlers.formats.image import Limits
from tests.handlers import images

LIMITS = Limits(bytes=1 << 20, pixels=1_000_000)
MEMORY = 512 << 20
SECONDS = 3


def flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 2, 8))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def flip_header(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 2))):
        data[chance.randrange(min(len(data), 200))] ^= 1 << chance.randrange(8)


def overwrite(data: bytearray, chance: random.Random) -> None:
    value = chance.choice((0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF))
    width = chance.choice((1, 2, 4))
    start = chance.randrange(len(data))
    data[start : start + width] = (value & (256**width - 1)).to_bytes(width, chance.choice(("big", "little")))


def truncate(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(1, len(data)) :]


def cut_out(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    del data[start : start + chance.randrange(1, 64)]


def repeat(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    data[start:start] = data[start : start + chance.randrange(1, 256)] * chance.choice((1, 2, 40))


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip, flip, flip_header, overwrite, overwrite, truncate, cut_out, repeat,
)  # fmt: skip


def broken(data: bytes, chance: random.Random) -> bytes:
    """Return a copy with one kind of damage."""
    copy = bytearray(data)
    chance.choice(MUTATIONS)(copy, chance)
    return bytes(copy)


def survive(data: bytes) -> str:
    """Decode, and return the name of the outcome."""
    try:
        return decode(data, LIMITS, at_least=(16, 16)).pixels.mode
    except RequestError as error:
        if not 400 <= error.status < 500 or "SECRET" in str(error):
            raise RuntimeError from error
        return f"{error.status} {type(error.__cause__).__name__}"


def campaign(name: str, valid: bytes, count: int, seed: int) -> dict[str, object]:
    """Decode damaged copies of one file, each within `SECONDS`."""
    chance = random.Random(f"{name} {seed}")
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    for number in range(count):
        data = broken(valid, chance)
        sys.stderr.write(f"{name} {seed} {number}\n")
        signal.alarm(SECONDS)
        start = time.monotonic()
        outcomes[survive(data)] += 1
        slowest = max(slowest, time.monotonic() - start)
        signal.alarm(0)
    return {"name": name, "outcomes": outcomes, "slowest": slowest}


def main(prefix: str, count: int, seed: int) -> None:
    chosen = {name: data for name, data in images.seeds().items() if name.startswith(prefix)}
    for data in chosen.values():
        survive(data)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
    results = [campaign(name, data, count, seed) for name, data in chosen.items()]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    sys.stdout.write(json.dumps({"results": results, "peak_mb": peak}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
