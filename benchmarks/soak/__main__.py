"""Soak test: requests through nginx to `radserve serve` while versions change and processes are killed.

    python -m benchmarks.soak --kill-supervisor --json results.json

Checks every response against a prediction computed beforehand, and reports lost requests, errors, latency, memory and
open files. A killed server is started again, as a service manager does.

Exit codes: 0 if no response was wrong, no request was lost outside the supervisor's own death, the memory of no process
grew by 5 % after the warm-up, and every change succeeded; 1 otherwise.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from benchmarks.server import command, free_ports
from benchmarks.soak.events import CHANGES, FAILURES, WORKERS, Schedule, Server
from benchmarks.soak.report import show, summarise
from benchmarks.soak.traffic import NAME, STABLE, Material, Traffic, prepare
from radserve.auth import key_file
from radserve.auth.api_keys import Role
from radserve.client.control import Control

_WARM_UP: Final = 0.1
"""Share of the requests before the first event, sent without pauses."""
_CHANGES: Final = 0.8
"""Share of the requests after which the cycle of changes is not repeated and the processes are killed."""


def main() -> None:
    """Run and report."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        material = prepare(options.folder or Path(name))
        report = run(options, material, Path(name))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    show(report, Console(width=180))
    sys.exit(bool(report["failures"]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--requests", type=int, default=100_000, help="more are sent if the events need more time (default: 100000)"
    )
    parser.add_argument("--clients", type=int, default=8, help="concurrent requests (default: 8)")
    parser.add_argument("--rate", type=float, default=50.0, help="requests per second (default: 50)")
    parser.add_argument("--quiet", type=float, default=3.0, help="seconds before each event (default: 3)")
    parser.add_argument("--events", nargs="+", choices=[*CHANGES, *FAILURES[:1]], metavar="EVENT", help="default: all")
    parser.add_argument("--kill-supervisor", action="store_true", help="kill the supervisor too, at the end")
    parser.add_argument("--folder", type=Path, help="folder to keep archives and references in, for the next run")
    parser.add_argument("--log", type=Path, help="file for the log of the server")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    return parser.parse_args()


def run(options: argparse.Namespace, material: Material, folder: Path) -> dict[str, Any]:
    """Serve the material, send the requests, make the events happen, and return the figures."""
    keys = folder / "keys.json"
    key = key_file.create(keys, "soak", [Role.PREDICT, Role.MANAGE])
    arguments, url, management = _serve(material.store, folder, keys)
    server = Server(arguments, options.log or folder / "log", url)
    traffic = Traffic(url, key, material, options.clients, options.rate)
    schedule = Schedule(server, traffic, functools.partial(Control.over_url, management, key, None), options.quiet)
    kinds = [*(options.events or (*CHANGES, FAILURES[0])), *(FAILURES[1:] if options.kill_supervisor else ())]
    with server:
        server.await_ready()
        begin = time.monotonic()
        traffic.start()
        with traffic.full_speed():
            traffic.await_records(int(_WARM_UP * options.requests))
        full_speed = len(traffic.records) / (time.monotonic() - begin)
        warm = time.monotonic()
        schedule.run(kinds, more=lambda: len(traffic.records) < _CHANGES * options.requests)
        traffic.finish(options.requests)
    usage = [item for item in server.usage if item.time >= warm]
    exits = [f"{code} after {at - begin:.0f} s" for at, code in server.exits]
    return summarise(traffic.records, schedule.events, usage, begin) | {
        "full_speed": full_speed,
        "exits": exits,
        "stopped": server.stopped,
    }


def _serve(store: Path, folder: Path, keys: Path) -> tuple[Sequence[str], str, str]:
    """Return the command of a server with a proxy, and its URLs for predictions and for management."""
    ports = free_ports(5)
    options = {
        "--management-port": ports[3],
        "--metrics-port-public": ports[4],
        "--models": f"{NAME}/{STABLE}",
        "--workers": WORKERS,
        "--settle": 1,
        "--keys": keys,
        "--rate": 100_000,
        "--runtime": folder / "runtime",
        "--state": folder / "state",
        "--access-log": folder / "access.log",
    }
    arguments = [str(word) for option in options.items() for word in option]
    url, management = (f"http://127.0.0.1:{port}" for port in (ports[0], ports[3]))
    return command(store, ports[:3], "--front", *arguments), url, management


if __name__ == "__main__":
    main()
