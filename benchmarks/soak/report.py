"""Summary of a soak test, its tables, and whether it passed."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.soak.events import Event, Usage
from benchmarks.soak.traffic import Record

OWN_DEATH: Final = "killed supervisor"
MAX_GROWTH: Final = 5.0
"""Percent by which the memory of a kind of process may grow after the warm-up."""


def summarise(
    records: Sequence[Record], events: Sequence[Event], usage: Sequence[Usage], begin: float
) -> dict[str, Any]:
    """Compute the figures of a run; times count from `begin`."""
    during = {id(event): [item for item in records if _overlap(item, event.begin, event.end)] for event in events}
    dead = {id(item) for event in events if event.kind == OWN_DEATH for item in during[id(event)]}
    lost = [item for item in records if item.status == 0]
    elapsed = max(item.end for item in records) - begin
    report: dict[str, Any] = {
        "requests": len(records),
        "seconds": elapsed,
        "rate": len(records) / elapsed,
        "outcomes": {
            kind: _count(str(item.status or "lost") for item in records if item.kind == kind)
            for kind in dict.fromkeys(item.kind for item in records)
        },
        "lost": {
            "during the supervisor's own death": _count(item.cause for item in lost if id(item) in dead),
            "otherwise": _count(item.cause for item in lost if id(item) not in dead),
        },
        "wrong": [
            {
                "at": item.begin - begin,
                "event": _kind(item, events),
                "body": item.body,
                "difference": item.wrong,
                "request_id": item.request_id,
            }
            for item in records
            if item.wrong
        ],
        "errors": _count(f"{item.cause} ({_kind(item, events)})" for item in records if item.status >= 500),
        "events": [_event(event, during[id(event)], begin) for event in events],
        "latency": {
            kind: {
                "before": _latency(
                    item
                    for event in events
                    if event.kind == kind
                    for item in records
                    if _overlap(item, event.begin - event.quiet, event.begin)
                ),
                "during": _latency(item for event in events if event.kind == kind for item in during[id(event)]),
            }
            for kind in dict.fromkeys(event.kind for event in events)
        },
        "memory": _growth(usage, events, "memory"),
        "files": _growth(usage, events, "files"),
        "usage": [{"time": item.time - begin, "memory": item.memory, "files": item.files} for item in usage],
    }
    return report | {"failures": _failures(report)}


def _failures(report: Mapping[str, Any]) -> list[str]:
    """Return why the run failed; empty if it passed."""
    failures = []
    if report["wrong"]:
        failures.append(f"{len(report['wrong'])} responses are wrong")
    if lost := sum(report["lost"]["otherwise"].values()):
        failures.append(f"{lost} requests were lost outside the supervisor's own death")
    failures += [
        f"the memory of {kind} grew by {values['growth']:.1f} %"
        for kind, values in report["memory"].items()
        if values["growth"] >= MAX_GROWTH
    ]
    return failures + [f"{event['kind']}: {event['error']}" for event in report["events"] if event["error"]]


def _overlap(record: Record, begin: float, end: float) -> bool:
    return record.begin <= end and record.end >= begin


def _kind(record: Record, events: Sequence[Event]) -> str:
    return next((event.kind for event in events if _overlap(record, event.begin, event.end)), "no event")


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _latency(records: Iterable[Record]) -> dict[str, float]:
    """Return percentiles of the latency of small valid bodies that got a response, in ms."""
    times = [1e3 * (item.end - item.begin) for item in records if item.kind == "good" and item.status]
    p50, p99, most = np.percentile(times or [0.0], [50, 99, 100])
    return {"count": len(times), "p50": float(p50), "p99": float(p99), "max": float(most)}


def _event(event: Event, records: Sequence[Record], begin: float) -> dict[str, Any]:
    slowest = max(records, key=lambda item: item.end - item.begin, default=None)
    return {
        "kind": event.kind,
        "begin": event.begin - begin,
        "seconds": event.end - event.begin,
        "error": event.error,
        "requests": len(records),
        "lost": sum(item.status == 0 for item in records),
        "errors": sum(item.status >= 500 for item in records),
        "slowest_ms": 1e3 * (slowest.end - slowest.begin) if slowest else 0.0,
        "slowest": f"{slowest.body}: {slowest.cause or slowest.status}" if slowest else "",
    }


def _growth(usage: Sequence[Usage], events: Sequence[Event], attribute: str) -> dict[str, dict[str, float]]:
    """Compare the first with the last fifth of the measurements between events, of the longest-lived supervisor."""
    quiet = [item for item in usage if not any(event.begin <= item.time <= event.end for event in events)]
    if not quiet:
        return {}
    supervisor, _ = Counter(item.supervisor for item in quiet).most_common(1)[0]
    values = [getattr(item, attribute) for item in quiet if item.supervisor == supervisor]
    fifth = max(1, len(values) // 5)
    growth = {}
    for kind in values[-1]:
        first, last = (
            statistics.median(item.get(kind, 0.0) for item in part) for part in (values[:fifth], values[-fifth:])
        )
        growth[kind] = {"first": first, "last": last, "growth": 100 * (last / first - 1) if first else 0.0}
    return growth


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print the tables of a report."""
    console.print(
        f"{report['requests']} requests in {report['seconds']:.0f} s: {report['rate']:.0f}/s; "
        f"{report['full_speed']:.0f}/s without pauses"
    )
    statuses = sorted({status for counts in report["outcomes"].values() for status in counts})
    _table(
        console,
        "Outcomes",
        ["bodies", *statuses],
        ([kind, *(counts.get(status, 0) for status in statuses)] for kind, counts in report["outcomes"].items()),
    )
    for title, counts in {
        "Wrong responses": _count(
            f"{item['body']} ({item['event']}): {item['difference']}" for item in report["wrong"]
        ),
        "5xx by cause": report["errors"],
        **{f"Lost {when}": causes for when, causes in report["lost"].items()},
    }.items():
        _table(console, title, ["requests", "cause"], ([count, cause] for cause, count in counts.items()))
    _table(
        console,
        "Latency of small valid bodies in ms: before / during",
        ["event", "responses", "p50", "p99", "max"],
        (
            [
                kind,
                *(f"{item['before'][key]:.0f} / {item['during'][key]:.0f}" for key in ("count", "p50", "p99", "max")),
            ]
            for kind, item in report["latency"].items()
        ),
    )
    _table(
        console,
        "Events",
        ["at s", "event", "took s", "lost", "5xx", "slowest ms", "slowest request", "error"],
        (
            [
                f"{item['begin']:.0f}",
                item["kind"],
                f"{item['seconds']:.1f}",
                item["lost"],
                item["errors"],
                f"{item['slowest_ms']:.0f}",
                item["slowest"],
                item["error"],
            ]
            for item in report["events"]
        ),
    )
    _table(
        console,
        "Between events, after the warm-up -> at the end",
        ["process", "memory MB", "growth", "open files"],
        (
            [
                kind,
                f"{item['first']:.0f} -> {item['last']:.0f}",
                f"{item['growth']:+.1f} %",
                f"{report['files'][kind]['first']:.0f} -> {report['files'][kind]['last']:.0f}",
            ]
            for kind, item in report["memory"].items()
        ),
    )
    console.print(f"Exits of the server: {report['exits'] or 'none'}; exit code at the end: {report['stopped']}")
    console.print("FAILED: " + "; ".join(report["failures"]) if report["failures"] else "PASSED")


def _table(console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*map(str, row))
    if table.row_count:
        console.print(table)
