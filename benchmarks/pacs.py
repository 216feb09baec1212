"""Measure whether the PACS loop loses or repeats a result, under kills: python -m benchmarks.pacs URL [--films 1000].

URL is that of a server with chest-xray-cnn. Films are stored in a real Orthanc, whose change feed the loop reads. The
loop is killed (SIGKILL) at random moments, and the Orthanc is stopped for some seconds, again and again.
"""

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from benchmarks.orthanc import SERIES, Orthanc, film, running, wait_for
from radserve.cli import main as command_line

_FORKS: Final = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["radserve.pacs.loop", "radserve.cli.pacs", __name__])
"""Imports take longer than the short lives of the loop under kills: they run once, in the process that is forked."""


@dataclass(frozen=True)
class Outcome:
    """What a run shows: results by image, and what was done to the parts meanwhile."""

    results: Counter[str]  # by SOP instance UID of the image
    kills: int
    outages: int
    seconds: float


def write_settings(orthanc: Orthanc, server: str, path: Path, **changes: Any) -> Path:
    """Write settings for a loop that reads the change feed of an Orthanc and stores reports there."""
    settings: dict[str, Any] = {
        "folder": str(path.parent / "loop"),
        "server": {"url": server},
        "sources": [{"orthanc": orthanc.url, "every": 0.5, "history": True}],
        "rules": [
            {
                "name": "children",
                "model": "chest-xray-cnn",
                "when": {"Modality": ["DX", "CR"], "BodyPartExamined": "CHEST"},
                "age": {"below": 6},
            }
        ],
        "destinations": [{"stow": f"{orthanc.url}/dicom-web"}],
        "write": ["sr"],
        "retry": {"first": 0.2, "longest": 2, "attempts": 20},
        "free": 0,
    }
    path.write_text(yaml.safe_dump(settings | changes), encoding="utf-8")
    return path


@contextmanager
def loop(settings: Path) -> Iterator[BaseProcess]:
    """Run the loop; its log is beside the settings. It is killed in the end unless it has ended."""
    process = _FORKS.Process(target=_run, args=(settings,))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def _run(settings: Path) -> None:
    log = os.open(settings.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, sys.stderr.fileno())
    sys.argv = ["radserve", "pacs", str(settings)]
    command_line.main()


def starts(settings: Path) -> int:
    """Return how often the loop has started, by its log."""
    log = settings.with_suffix(".log")
    return log.read_text(encoding="utf-8").count('"running with') if log.exists() else 0


def under_kills(orthanc: Orthanc, settings: Path, films: int, alive: float, seed: int, least: int) -> Outcome:
    """Store films until every film has a result; lives of the loop and outages last `alive` seconds at most.

    The films are stored in portions, one for each of the first `least` lives of the loop: a fast machine has
    results for a whole portion before the kill, never for all films.
    """
    chance, start = random.Random(seed), time.monotonic()
    kills = outages = 0
    lives = threading.Semaphore(1)
    sender = threading.Thread(target=_send, args=(orthanc, films, -(-films // least), lives))
    sender.start()
    while sender.is_alive() or len(_results(orthanc)) < films:
        before = starts(settings)
        with loop(settings):
            if chance.random() < 0.8:
                wait_for(lambda before=before: starts(settings) > before)  # type: ignore[misc]
            if chance.random() < 0.3:
                orthanc.stop()
                time.sleep(chance.uniform(0, alive))
                orthanc.start()
                outages += 1
            time.sleep(chance.uniform(0, alive))
        kills += 1
        lives.release()
    sender.join()
    before = starts(settings)
    with loop(settings) as last:  # nothing may come twice
        wait_for(lambda: starts(settings) > before and _unfinished(settings) == 0)
        last.terminate()
        last.join(60)
        assert last.exitcode == 0
    return Outcome(_results(orthanc), kills, outages, time.monotonic() - start)


def _send(orthanc: Orthanc, films: int, portion: int, lives: threading.Semaphore) -> None:
    for number in range(1, films + 1):
        if number % portion == 1 or portion == 1:
            lives.acquire()
        content = film(number)
        _repeatedly(lambda content=content: orthanc.store(content))  # type: ignore[misc]
        if number % 10 == 0:
            _repeatedly(lambda content=content: orthanc.store(content))  # type: ignore[misc]


def _repeatedly(function: Callable[[], None]) -> None:
    while True:
        try:
            return function()
        except httpx.HTTPError:
            time.sleep(0.2)


def _results(orthanc: Orthanc) -> Counter[str]:
    reports = orthanc.objects("SR")
    return Counter(evidence(report) for report in reports)


def evidence(report: dict[str, Any]) -> str:
    """Return the SOP instance UID of the image that a report is about."""
    uids = {text for text in json.dumps(report).split('"') if text.startswith(f"{SERIES}.")}
    assert len(uids) == 1, report
    return uids.pop()


def _unfinished(settings: Path) -> int:
    from radserve.pacs import settings as pacs_settings
    from radserve.pacs.queue import Queue

    queue = Queue(pacs_settings.load(settings).folder)
    try:
        counts = queue.counts()
    finally:
        queue.close()
    return counts["received"] + counts["predicting"] + counts["storing"]


def main() -> None:
    """Run the benchmark, and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--films", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running(Path(name) / "orthanc") as orthanc:
        settings = write_settings(orthanc, options.url, Path(name) / "pacs.yaml")
        outcome = under_kills(orthanc, settings, options.films, 15, options.seed, least=20)
    repeated = sum(number > 1 for number in outcome.results.values())
    document = {
        "films": options.films,
        "with_result": len(outcome.results),
        "with_several": repeated,
        "kills": outcome.kills,
        "outages": outcome.outages,
        "seconds": round(outcome.seconds, 1),
    }
    print(json.dumps(document))
    sys.exit(int(len(outcome.results) != options.films or repeated > 0))


if __name__ == "__main__":
    main()
