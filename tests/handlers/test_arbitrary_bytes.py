"""Arbitrary bytes give an image or a `RequestError`, in bounded time and memory."""

import random
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import fuzz
from tests.handlers.images import seeds
from tests.server import ROOT

SEEDS = seeds()
STARTS = (
    b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    b"II*\x00\x08\x00\x00\x00",
    b"MM\x00*\x00\x00\x00\x08",
    b"II+\x00\x08\x00\x00\x00\x10\x00",
    b"BM",
    b"RIFF\x20\x00\x00\x00WEBPVP8L",
    b"\x93NUMPY\x01\x00\x76\x00{'descr': '|u1', ",
    bytes(128) + b"DICM\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\x00",
    bytes(128) + b"DICM\x02\x00\x10\x00UI\x12\x001.2.840.10008.1.2\x00",
    b"\x08\x00\x05\x00CS\x00\x00",
    b"\x08\x00\x05\x00\x00\x00\x00\x00",
    b"\x00\x08\x00\x05CS\x00\x00",
    b"",
)

bounded = settings(derandomize=True, deadline=2000, max_examples=400)


@bounded
@given(st.sampled_from(STARTS), st.binary(max_size=600))
def test_random_bytes(start: bytes, rest: bytes) -> None:
    fuzz.read(start + rest)


@bounded
@given(st.sampled_from(sorted(SEEDS)), st.data())
def test_truncations(name: str, data: st.DataObject) -> None:
    whole = SEEDS[name]
    fuzz.read(whole[: data.draw(st.integers(0, len(whole) - 1))])


@bounded
@given(st.sampled_from(sorted(SEEDS)), st.data())
def test_bit_flips(name: str, data: st.DataObject) -> None:
    copy = bytearray(SEEDS[name])
    for bit in data.draw(st.lists(st.integers(0, 8 * len(copy) - 1), min_size=1, max_size=8)):
        copy[bit // 8] ^= 1 << bit % 8
    fuzz.read(bytes(copy))


@bounded
@given(st.sampled_from(sorted(SEEDS)), st.integers(0, 2**32))
def test_other_damage(name: str, seed: int) -> None:
    fuzz.read(fuzz.damaged(SEEDS[name], random.Random(seed)))


def test_sample_of_the_fuzzer() -> None:
    """Every bomb, and some thousand damaged copies, in child processes: native decoders may crash."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fuzz", "--mutations", "2000"],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    rows = [line.split() for line in done.stdout.splitlines()[1:] if line.startswith(("all ", *SEEDS))]
    table = {name: (int(pictures), int(rejected)) for name, _, pictures, rejected, *_ in rows}
    assert sum(table["all"]) > 2000
    assert all(rejected for _, rejected in table.values())
