"""Kills workers, their clients and the fork server at random, and checks that the server recovers from each kill.

    python -m benchmarks.fork_kills --model-store model_store                # 200 kills; exit code 1 on any failure
    python -m benchmarks.fork_kills --kills 20 --seed 7

After each kill, every model must have its workers again, each of them must serve a slot of TorchServe, and each model
must answer its sample as before. At the end, no process of the stopped server may remain.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from benchmarks.server import is_worker, launch
from radserve.torchserve.fork_server import NAME
from radserve.torchserve.verified_models import VerifiedModel, select

VICTIMS: Final = ("worker", "client", "fork server")
_PATIENCE: Final = 120.0
"""Seconds in which the server must recover from a kill."""
_SHARE: Final = 0.5
"""Least share of the kills of each kind that must find a process; a dead fork server is missing for some seconds."""


@dataclass
class Report:
    """Seconds to recover by what was killed, and what was wrong."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    started: Counter[str] = field(default_factory=Counter)  # workers that replaced killed ones: "fork" or "fresh"
    skipped: Counter[str] = field(default_factory=Counter)  # kinds of which no process ran
    failures: list[str] = field(default_factory=list)

    def require(self, share: float) -> None:
        """Add a failure unless a kind was killed at all, and in this share of the attempts."""
        for kind in VICTIMS:
            killed = len(self.seconds.get(kind, []))
            if killed == 0 or killed < share * (killed + self.skipped[kind]):
                self.failures.append(f"{kind}: only {killed} kills; {self.skipped[kind]} were skipped")


class Target:
    """A running server whose processes are killed."""

    def __init__(self, url: str, runtime: Path, models: Sequence[VerifiedModel]) -> None:
        self._runtime = runtime
        self._models = models
        self._predictions = httpx.Client(base_url=url, timeout=30.0)
        transport = httpx.HTTPTransport(uds=str(runtime / "management.sock"))
        self._management = httpx.Client(base_url="http://torchserve", transport=transport, timeout=30.0)
        self.expected = self.answers()

    def close(self) -> None:
        """Close the connections."""
        self._predictions.close()
        self._management.close()

    def find(self, kind: str) -> list[psutil.Process]:
        """Return the processes of a kind; forks of a dead fork server are no longer below the supervisor."""
        return [process for process in self.processes() if _is(kind, process)]

    def slots(self) -> set[int]:
        """Return the process ids of the workers that TorchServe reports as ready."""
        models = [self._management.get(model.path.replace("/predictions", "/models")).json() for model in self._models]
        items = [item for (model,) in models for item in model["workers"]]
        return {int(item["pid"]) for item in items if item["status"] == "READY"}

    def answers(self) -> Mapping[str, Any]:
        """Return each model's prediction for its sample."""
        results = {}
        for model in self._models:
            response = self._predictions.put(model.path, content=model.sample)
            results[model.entry.name] = {key: response.json().get(key) for key in ("model", "label", "probabilities")}
        return results

    def processes(self) -> list[psutil.Process]:
        """Return TorchServe, fork server, workers and clients, whatever their parents are: they run in its folder."""
        results = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if Path(process.cwd()).is_relative_to(self._runtime):
                    results.append(process)
        return results

    def whole(self, count: int) -> set[int] | None:
        """Return the workers if every slot has one, no other runs, and every fork has a client; else None."""
        with suppress(httpx.HTTPError, psutil.NoSuchProcess, KeyError, ValueError):
            running = {process.pid: process.name() for process in self.find("worker")}
            clients = len(self.find("client"))
            slots = self.slots()
            whole = len(slots) == count and slots == running.keys() and clients == [*running.values()].count(NAME)
            return slots if whole else None
        return None


def _is(kind: str, process: psutil.Process) -> bool:
    """Whether a process is of a kind; false if it has ended."""
    with suppress(psutil.Error):
        if kind == "worker":
            return is_worker(process)
        text = {"client": "fork_client", "fork server": "radserve.torchserve.fork_server"}[kind]
        return process.name() != NAME and text in " ".join(process.cmdline())
    return False


def kill(target: Target, kinds: Sequence[str], pause: float = 0.0) -> Report:
    """Kill one process of each kind after the other, and wait until the server has recovered each time."""
    report = Report()
    count = len(target.slots())
    for kind in kinds:
        candidates = target.find(kind)
        if not candidates:  # the fork server starts again after some seconds, and fresh workers have no client
            report.skipped[kind] += 1
            continue
        victim = random.choice(candidates)
        before = target.slots()
        start = time.monotonic()
        victim.kill()
        while (after := target.whole(count)) is None or (after == before) == (kind != "fork server"):
            if time.monotonic() - start > _PATIENCE:
                report.failures.append(f"{kind}: not recovered after {_PATIENCE:g} s")
                return report
            time.sleep(0.05)
        report.seconds.setdefault(kind, []).append(time.monotonic() - start)
        for process in map(psutil.Process, after - before):
            report.started["fork" if process.name() == NAME else "fresh"] += 1
        if (answers := target.answers()) != target.expected:
            report.failures.append(f"{kind}: other predictions than before: {answers}")
        time.sleep(pause)
    return report


def main() -> None:
    """Run the kills and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-store", type=Path, default=Path("model_store"))
    parser.add_argument("--models", default="", help="comma-separated; default: all")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    models = select(options.model_store, [name for name in options.models.split(",") if name])
    with tempfile.TemporaryDirectory() as scratch:
        runtime = Path(scratch) / "run"
        arguments = ("--workers", "1", "--runtime", str(runtime), "--models", options.models)
        with launch(options.model_store, Path(scratch) / "log", *arguments) as server:
            target = Target(server.url, runtime, models)
            report = kill(target, random.choices(VICTIMS, (5, 4, 1), k=options.kills))
        target.close()
        if remaining := target.processes():
            report.failures.append(f"remaining processes: {remaining}")
    for kind, seconds in report.seconds.items():
        median = statistics.median(seconds)
        print(f"{kind}: {len(seconds)} kills, recovered after {median:.1f} s (median), {max(seconds):.1f} s at most")
    report.require(_SHARE)
    print(f"replacements: {dict(report.started)}; skipped, because there was none: {dict(report.skipped)}")
    sys.exit("\n".join(report.failures) or 0)


if __name__ == "__main__":
    main()
