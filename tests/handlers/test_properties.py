"""Arbitrary bytes give an image or a `RequestError`, in bounded time and memory."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.handlers import mutate
from tests.handlers.images import seeds

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
    mutate.survive(start + rest)


@bounded
@given(st.sampled_from(sorted(SEEDS)), st.data())
def test_truncations(name: str, data: st.DataObject) -> None:
    whole = SEEDS[name]
    mutate.survive(whole[: data.draw(st.integers(0, len(whole) - 1))])


@bounded
@given(st.sampled_from(sorted(SEEDS)), st.data())
def test_bit_flips(name: str, data: st.DataObject) -> None:
    copy = bytearray(SEEDS[name])
    for bit in data.draw(st.lists(st.integers(0, 8 * len(copy) - 1), min_size=1, max_size=8)):
        copy[bit // 8] ^= 1 << bit % 8
    mutate.survive(bytes(copy))


@bounded
@given(st.sampled_from(sorted(SEEDS)), st.integers(0, 2**32))
def test_other_damage(name: str, seed: int) -> None:
    mutate.survive(mutate.broken(SEEDS[name], random.Random(seed)))


@pytest.mark.parametrize("prefix", ["jpeg", "png", "tiff", "bmp", "webp", "npy", "dicom"])
def test_no_crash_and_no_hang(prefix: str) -> None:
    """Runs in a child process with bounded memory: native decoders may crash."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.handlers.mutate", prefix, "200", "1"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert report["results"]
    for result in report["results"]:
        assert result["slowest"] < 1
        assert sum(count for outcome, count in result["outcomes"].items() if outcome[0] == "4") > 0
