"""How models, rollouts, changes and the audit log look: tables and lines for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from pydantic import BaseModel
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from radserve.cli import units
from radserve.cli.table import fraction, safe
from radserve.schema.control import AuditEntry, ModelStatus, ServerStatus, VersionStatus
from radserve.schema.deployment import Change, percent
from radserve.schema.rollout import Latency, RolloutStatus, ShadowReport, TrafficSample

_PIPE_WIDTH: Final = 200
_STATES: Final = {"ready": "green", "degraded": "bold red", "starting": "yellow", "candidate": "yellow"}
_ENDS: Final = {True: "green", False: "bold red", None: "yellow"}
_ACTIONS: Final = {"register": "green", "scale": "yellow", "share": "yellow", "unregister": "red"}
_SHORT: Final = 12
"""Characters of a sha256 that tell archives apart where there is no room for all."""


def console(*, stderr: bool = False) -> Console:
    """Return a console; where it is no terminal, lines are not broken at 80."""
    made = Console(highlight=False, markup=False, stderr=stderr)
    if not made.is_terminal:
        made.width = _PIPE_WIDTH
    return made


def waiting(what: str) -> AbstractContextManager[object]:
    """Show on a terminal that something takes its time."""
    out = console(stderr=True)
    return out.status(safe(f"{what} ...")) if out.is_terminal else nullcontext()


def json(out: Console, value: BaseModel) -> None:
    """Write one JSON document."""
    out.print(value.model_dump_json(indent=2), soft_wrap=True)


def overview(out: Console, found: ServerStatus) -> None:
    """Show all models, and what moves among them."""
    if not found.models:
        out.print("No model is registered.")
        return
    table = _table("Model", "=Version", "=State", ">Share", ">Workers", ">Age", ">Requests", ">Errors", ">p95")
    for model in found.models:
        for item in model.versions:
            table.add_row(safe(model.name), *_row(item))
    out.print(table)
    for model in found.models:
        if model.rollout is not None and not model.rollout.done:
            rollout_line(out, model.rollout)
    if not found.front:
        out.print("No front is before this server: a rollout is verified, then switches all requests at once.")


def model(out: Console, found: ModelStatus) -> None:
    """Show everything about one model."""
    out.print(_properties(found.versions))
    for item in found.versions:
        default = ", the default one" if item.default else ""
        out.print(safe(f"{found.name} {item.version}{default}: archive sha256 {item.sha256}"), soft_wrap=True)
    if found.previous is not None:
        out.print(safe(f"A rollback would lead to {found.previous}."))
    if found.rollout is not None:
        rollout_line(out, found.rollout)


def version(out: Console, name: str, item: VersionStatus, what: str) -> None:
    """Say in a line what became of a version."""
    line = f"{name} {item.version} {what}: {item.state}, {_ready(item)} workers, {percent(item.share)} of requests"
    out.print(safe(f"{line}, sha256 {item.sha256}."), soft_wrap=True)


def rollout_line(out: Console, item: RolloutStatus) -> None:
    """Say in a line where a rollout stands."""
    out.print(_headline(item), soft_wrap=True)


def rollout(out: Console, item: RolloutStatus) -> None:
    """Show where a rollout stands, or how it ended, and what was seen."""
    rollout_line(out, item)
    if item.candidate is not None or item.stable is not None:
        out.print(observed(item))
    if item.shadow is not None:
        _report(out, item, item.shadow)


def observed(item: RolloutStatus) -> Table:
    """Set both sides of a rollout beside each other."""
    table = _table("Version", ">Requests", ">Errors", ">p95")
    sides = ((item.version, item.candidate), (item.before or "before", item.stable))
    for name, side in ((name, side) for name, side in sides if side is not None):
        table.add_row(safe(name), safe(f"{side.requests}"), safe(_errors(side)), safe(units.latency(side.p95)))
    return table


def step(item: RolloutStatus) -> str:
    """Say which share a rollout is at, of which steps."""
    if item.done or item.step is None or not item.steps:
        return f"{percent(item.share)} of requests"
    return f"{percent(item.share)} of requests, step {item.step + 1} of {len(item.steps)}"


def changes(out: Console, found: Iterable[Change]) -> None:
    """Show what would be done, or was."""
    for item in found:
        out.print(Text.assemble((f"{item.action:<10}  ", _ACTIONS[item.action]), safe(item.detail)), soft_wrap=True)


def audit(out: Console, entries: Sequence[AuditEntry]) -> None:
    """Show who did what, and why."""
    if not entries:
        out.print("Nothing is in the audit log.")
        return
    table = _table("=Time", "Who", "Action", "Model", "Version", "sha256", "Why", "Detail")
    for item in entries:
        texts = (item.model, item.version, (item.sha256 or "")[:_SHORT], item.reason, item.detail)
        time = f"{item.time.astimezone():%Y-%m-%d %H:%M:%S}"
        table.add_row(*(safe(text or "") for text in (time, item.actor, item.action, *texts)))
    out.print(table)


def _report(out: Console, item: RolloutStatus, report: ShadowReport) -> None:
    """Show what came of the copies."""
    table = _table("Shadow", ">")
    table.add_row(safe("copies"), safe(f"{report.copies}"))
    table.add_row(safe("compared"), safe(f"{report.compared}"))
    table.add_row(safe("agreeing"), safe(units.part(report.agreeing, report.compared)))
    table.add_row(safe("dropped"), safe(units.part(report.dropped, report.copies)))
    table.add_row(safe("failed"), safe(units.part(report.failed, report.copies)))
    if report.largest_difference is not None:
        table.add_row(safe("largest difference of probability"), safe(fraction(report.largest_difference)))
    out.print(table)
    times = _table("Version", ">p50", ">p95")
    for name, side in ((item.version, report.candidate), (item.before or "before", report.stable)):
        latency = side or Latency()
        times.add_row(safe(name), safe(units.latency(latency.p50)), safe(units.latency(latency.p95)))
    out.print(times)
    if report.examples:
        examples = _table("Answered differently", item.before or "before", item.version)
        for example in report.examples:
            examples.add_row(safe(example.request_id), safe(example.stable), safe(example.candidate))
        out.print(examples)


def _headline(item: RolloutStatus) -> Text:
    phase = item.phase.replace("_", " ")
    return Text.assemble(
        safe(f"{item.name} {item.version}: "),
        safe(phase, _ENDS[item.succeeded]),
        safe(f" ({step(item)}): {item.detail}"),
    )


def _row(item: VersionStatus) -> tuple[Text, ...]:
    """Return the cells of a version among all others."""
    return (
        safe(item.version),
        _state(item),
        safe(percent(item.share)),
        _workers(item),
        safe(units.age(item.age_seconds)),
        safe(f"{item.requests}"),
        safe(f"{item.errors}", "red" if item.errors else ""),
        safe(units.latency((item.latency or Latency()).p95)),
    )


def _properties(versions: Sequence[VersionStatus]) -> Table:
    """Set the versions of one model beside each other; there are few of them, and much to say of each."""
    table = _table("", *(f">{item.version}" for item in versions))
    latencies = [item.latency or Latency() for item in versions]
    rows: dict[str, Iterable[Text]] = {
        "State": map(_state, versions),
        "Share of requests": (safe(percent(item.share)) for item in versions),
        "Workers ready": map(_workers, versions),
        "Age": (safe(units.age(item.age_seconds)) for item in versions),
        "Requests": (safe(f"{item.requests}") for item in versions),
        "Errors": (safe(_errors(item), "red" if item.errors else "") for item in versions),
        "Refusals": (safe(f"{item.refusals}") for item in versions),
        "Half answered within": (safe(units.latency(item.p50)) for item in latencies),
        "95 % answered within": (safe(units.latency(item.p95)) for item in latencies),
        "Archive": (safe(units.size(item.size)) for item in versions),
    }
    for name, cells in rows.items():
        table.add_row(safe(name), *cells)
    return table


def _state(item: VersionStatus) -> Text:
    return safe(item.state, _STATES.get(item.state, ""))


def _workers(item: VersionStatus) -> Text:
    return safe(_ready(item), "" if item.workers.ready >= item.workers.wanted else "bold red")


def _ready(item: VersionStatus) -> str:
    return f"{item.workers.ready}/{item.workers.wanted}"


def _errors(side: TrafficSample | VersionStatus) -> str:
    return units.part(side.errors, side.requests)


def _table(*columns: str) -> Table:
    """Make a table; of a column whose name begins with = no cell is broken, and > aligns it to the right, too."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in columns:
        if name.startswith((">", "=")):
            table.add_column(safe(name[1:]), justify="right" if name.startswith(">") else "left", no_wrap=True)
        else:
            table.add_column(safe(name), overflow="fold")
    return table
