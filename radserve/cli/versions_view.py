"""Prints models, rollouts, changes and the audit log: tables and lines for people, JSON for programs."""

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
_STATE_STYLES: Final = {"ready": "green", "degraded": "bold red", "starting": "yellow", "candidate": "yellow"}
_OUTCOME_STYLES: Final = {True: "green", False: "bold red", None: "yellow"}
_ACTION_STYLES: Final = {"register": "green", "scale": "yellow", "share": "yellow", "unregister": "red"}
_SHORT_SHA256: Final = 12
"""Characters that distinguish archives in a table."""


def console(*, stderr: bool = False) -> Console:
    """Return a console; without a terminal it does not wrap lines at 80 characters."""
    out = Console(highlight=False, markup=False, stderr=stderr)
    if not out.is_terminal:
        out.width = _PIPE_WIDTH
    return out


def waiting(action: str) -> AbstractContextManager[object]:
    """Show a spinner on a terminal."""
    out = console(stderr=True)
    return out.status(safe(f"{action} ...")) if out.is_terminal else nullcontext()


def json(out: Console, document: BaseModel) -> None:
    """Print a JSON document."""
    out.print(document.model_dump_json(indent=2), soft_wrap=True)


def overview(out: Console, status: ServerStatus) -> None:
    """Print all models, and the rollouts in progress."""
    if not status.models:
        out.print("No model is registered.")
        return
    table = _table("Model", "=Version", "=State", ">Share", ">Workers", ">Age", ">Requests", ">Errors", ">p95")
    for model in status.models:
        for version in model.versions:
            table.add_row(safe(model.name), *_row(version))
    out.print(table)
    for model in status.models:
        if model.rollout is not None and not model.rollout.done:
            rollout_line(out, model.rollout)
    if not status.front:
        out.print("Without a proxy, requests cannot be split: a rollout verifies a version, then switches all at once.")


def model(out: Console, status: ModelStatus) -> None:
    """Print everything about one model."""
    out.print(_properties(status.versions))
    for version in status.versions:
        default = " (default)" if version.default else ""
        out.print(safe(f"{status.name} {version.version}{default}: archive sha256 {version.sha256}"), soft_wrap=True)
    if status.previous is not None:
        out.print(safe(f"A rollback restores {status.previous}."))
    if status.rollout is not None:
        rollout_line(out, status.rollout)


def version(out: Console, name: str, status: VersionStatus, change: str) -> None:
    """Print a line about a changed version."""
    line = f"{name} {status.version} {change}: {status.state}, {_ready(status)} workers, {percent(status.share)}"
    out.print(safe(f"{line} of requests, sha256 {status.sha256}."), soft_wrap=True)


def rollout_line(out: Console, status: RolloutStatus) -> None:
    """Print the progress or the outcome of a rollout in one line."""
    line = Text.assemble(
        safe(f"{status.name} {status.version}: "),
        safe(status.phase.replace("_", " "), _OUTCOME_STYLES[status.succeeded]),
        safe(f" ({step(status)}): {status.detail}"),
    )
    out.print(line, soft_wrap=True)


def rollout(out: Console, status: RolloutStatus) -> None:
    """Print the progress or the outcome of a rollout, with its traffic."""
    rollout_line(out, status)
    if status.candidate is not None or status.stable is not None:
        out.print(traffic(status))
    if status.shadow is not None:
        _print_shadow(out, status, status.shadow)


def traffic(status: RolloutStatus) -> Table:
    """Return a table with the traffic of both versions."""
    table = _table("Version", ">Requests", ">Errors", ">p95")
    for version, sample in ((status.version, status.candidate), (status.before or "before", status.stable)):
        if sample is not None:
            cells = (version, f"{sample.requests}", _errors(sample), units.latency(sample.p95))
            table.add_row(*map(safe, cells))
    return table


def step(status: RolloutStatus) -> str:
    """Describe the share of a rollout and its step."""
    share = f"{percent(status.share)} of requests"
    if status.done or status.step is None or not status.steps:
        return share
    return f"{share}, step {status.step + 1} of {len(status.steps)}"


def changes(out: Console, items: Iterable[Change]) -> None:
    """Print changes of a deployment, planned or applied."""
    for item in items:
        action = (f"{item.action:<10}  ", _ACTION_STYLES[item.action])
        out.print(Text.assemble(action, safe(item.detail)), soft_wrap=True)


def audit(out: Console, entries: Sequence[AuditEntry]) -> None:
    """Print entries of the audit log."""
    if not entries:
        out.print("The audit log is empty.")
        return
    table = _table("=Time", "Actor", "Action", "Model", "Version", "sha256", "Reason", "Detail")
    for entry in entries:
        time, sha256 = f"{entry.time.astimezone():%Y-%m-%d %H:%M:%S}", (entry.sha256 or "")[:_SHORT_SHA256]
        cells = (time, entry.actor, entry.action, entry.model, entry.version, sha256, entry.reason, entry.detail)
        table.add_row(*(safe(text or "") for text in cells))
    out.print(table)


def _print_shadow(out: Console, status: RolloutStatus, report: ShadowReport) -> None:
    before = status.before or "before"
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
    for version, measured in ((status.version, report.candidate), (before, report.stable)):
        latency = measured or Latency()
        times.add_row(safe(version), safe(units.latency(latency.p50)), safe(units.latency(latency.p95)))
    out.print(times)
    if report.examples:
        examples = _table("Different responses", before, status.version)
        for example in report.examples:
            examples.add_row(safe(example.request_id), safe(example.stable), safe(example.candidate))
        out.print(examples)


def _row(status: VersionStatus) -> tuple[Text, ...]:
    return (
        safe(status.version),
        _state(status),
        safe(percent(status.share)),
        _workers(status),
        safe(units.age(status.age_seconds)),
        safe(f"{status.requests}"),
        safe(f"{status.errors}", "red" if status.errors else ""),
        safe(units.latency((status.latency or Latency()).p95)),
    )


def _properties(versions: Sequence[VersionStatus]) -> Table:
    """Return a table with a column for each version, since there are few of them with many properties."""
    table = _table("", *(f">{version.version}" for version in versions))
    latencies = [version.latency or Latency() for version in versions]
    rows: dict[str, Iterable[Text]] = {
        "State": map(_state, versions),
        "Share of requests": (safe(percent(version.share)) for version in versions),
        "Workers ready": map(_workers, versions),
        "Age": (safe(units.age(version.age_seconds)) for version in versions),
        "Requests": (safe(f"{version.requests}") for version in versions),
        "Errors (5xx)": (safe(_errors(version), "red" if version.errors else "") for version in versions),
        "Rejections (4xx)": (safe(f"{version.refusals}") for version in versions),
        "Median latency": (safe(units.latency(latency.p50)) for latency in latencies),
        "95th percentile": (safe(units.latency(latency.p95)) for latency in latencies),
        "Archive": (safe(units.size(version.size)) for version in versions),
    }
    for name, cells in rows.items():
        table.add_row(safe(name), *cells)
    return table


def _state(status: VersionStatus) -> Text:
    return safe(status.state, _STATE_STYLES.get(status.state, ""))


def _workers(status: VersionStatus) -> Text:
    return safe(_ready(status), "" if status.workers.ready >= status.workers.wanted else "bold red")


def _ready(status: VersionStatus) -> str:
    return f"{status.workers.ready}/{status.workers.wanted}"


def _errors(sample: TrafficSample | VersionStatus) -> str:
    return units.part(sample.errors, sample.requests)


def _table(*columns: str) -> Table:
    """Return an empty table; the prefix `=` of a column prevents wrapping, `>` also aligns it to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in columns:
        if name.startswith((">", "=")):
            table.add_column(safe(name[1:]), justify="right" if name.startswith(">") else "left", no_wrap=True)
        else:
            table.add_column(safe(name), overflow="fold")
    return table
