"""Prints models, rollouts, changes and the audit log: tables and lines for people, JSON for programs."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, TypeVar

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from radserve.cli import terminal
from radserve.cli.terminal import safe
from radserve.schema.control import AuditLog, AuditVerification, ModelStatus, ServerStatus, VersionStatus
from radserve.schema.deployment import Change, percent
from radserve.schema.rollout import Latency, RolloutStatus, ShadowReport, TrafficSample

_STATE_STYLES: Final = {"ready": "green", "degraded": "bold red", "starting": "yellow", "candidate": "yellow"}
_OUTCOME_STYLES: Final = {True: "green", False: "bold red", None: "yellow"}
_ACTION_STYLES: Final = {"register": "green", "scale": "yellow", "share": "yellow", "unregister": "red"}
_SHORT_SHA256: Final = 12  # characters that distinguish archives in a table

D = TypeVar("D", bound=BaseModel)


def waiting(action: str) -> AbstractContextManager[object]:
    """Show a spinner on a terminal."""
    out = terminal.console(stderr=True)
    return out.status(safe(f"{action} ...")) if out.is_terminal else nullcontext()


def show(document: D, view: Callable[[Console, D], None], *, json: bool) -> None:
    """Print a document as JSON, or with one of the views below."""
    if json:
        terminal.print_json(document)
    else:
        view(terminal.console(), document)


def overview(out: Console, status: ServerStatus) -> None:
    """Print all models, and the rollouts in progress."""
    if not status.models:
        out.print("No model is registered.")
        return
    columns = ("Model", "=Version", "=State", ">Share", ">Workers", ">Age", ">Requests", ">Errors", ">p95")
    rows = ((model.name, *_row(version)) for model in status.models for version in model.versions)
    out.print(terminal.table(*columns, rows=rows))
    for model in status.models:
        if model.rollout is not None and not model.rollout.done:
            rollout_line(out, model.rollout)
        _print_quarantined(out, model)
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
    _print_quarantined(out, status)
    if status.rollout is not None:
        rollout_line(out, status.rollout)


def _print_quarantined(out: Console, status: ModelStatus) -> None:
    for item in status.quarantined:
        line = Text.assemble(
            safe(f"{status.name} {item.version}: "), safe("quarantined", "bold red"), safe(f" ({item.reason})")
        )
        out.print(line, soft_wrap=True)


def changed_version(name: str, change: str) -> Callable[[Console, VersionStatus], None]:
    """Return a view that prints a line about a changed version."""

    def view(out: Console, status: VersionStatus) -> None:
        line = f"{name} {status.version} {change}: {status.state}, {_ready(status)} workers, {percent(status.share)}"
        out.print(safe(f"{line} of requests, sha256 {status.sha256}."), soft_wrap=True)

    return view


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
    samples = ((status.version, status.candidate), (status.before or "before", status.stable))
    rows = (
        (version, f"{sample.requests}", _errors(sample), terminal.latency(sample.p95))
        for version, sample in samples
        if sample is not None
    )
    return terminal.table("Version", ">Requests", ">Errors", ">p95", rows=rows)


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


def audit(out: Console, log: AuditLog) -> None:
    """Print the audit log."""
    if not log.entries:
        out.print("The audit log is empty.")
        return
    table = terminal.table("=Time", "Actor", "Action", "Model", "Version", "sha256", "Reason", "Detail")
    for entry in log.entries:
        time, sha256 = f"{entry.time.astimezone():%Y-%m-%d %H:%M:%S}", (entry.sha256 or "")[:_SHORT_SHA256]
        cells = (time, entry.actor, entry.action, entry.model, entry.version, sha256, entry.reason, entry.detail)
        table.add_row(*(safe(text or "") for text in cells))
    out.print(table)


def verification(out: Console, result: AuditVerification) -> None:
    """Print the result of a verification of the audit log."""
    out.print(safe(result.problem, "bold red") if result.problem else safe("intact", "green"), soft_wrap=True)
    out.print(safe(f"{result.entries} entries, head {result.head}"), soft_wrap=True)


def _print_shadow(out: Console, status: RolloutStatus, report: ShadowReport) -> None:
    before = status.before or "before"
    rows = [
        ("copies", f"{report.copies}"),
        ("compared", f"{report.compared}"),
        ("agreeing", terminal.part(report.agreeing, report.compared)),
        ("dropped", terminal.part(report.dropped, report.copies)),
        ("failed", terminal.part(report.failed, report.copies)),
    ]
    if report.largest_difference is not None:
        rows.append(("largest difference of probability", terminal.fraction(report.largest_difference)))
    rows += [
        (f"shift of {kind} (index), {report.images[kind]} images", f"{shift:.2f}")
        for kind, shift in report.shifts.items()
    ]
    out.print(terminal.table("Shadow", ">", rows=rows))
    times = ((status.version, report.candidate or Latency()), (before, report.stable or Latency()))
    latencies = ((version, terminal.latency(time.p50), terminal.latency(time.p95)) for version, time in times)
    out.print(terminal.table("Version", ">p50", ">p95", rows=latencies))
    if report.examples:
        examples = ((example.request_id, example.stable, example.candidate) for example in report.examples)
        out.print(terminal.table("Different responses", before, status.version, rows=examples))


def _row(status: VersionStatus) -> tuple[str | Text, ...]:
    return (
        status.version,
        _state(status),
        percent(status.share),
        _workers(status),
        terminal.age(status.age_seconds),
        f"{status.requests}",
        safe(f"{status.errors}", "red" if status.errors else ""),
        terminal.latency((status.latency or Latency()).p95),
    )


def _properties(versions: Sequence[VersionStatus]) -> Table:
    """Return a table with a column for each version, since there are few of them with many properties."""
    latencies = [version.latency or Latency() for version in versions]
    rows: dict[str, Iterable[str | Text]] = {
        "State": map(_state, versions),
        "Share of requests": (percent(version.share) for version in versions),
        "Workers ready": map(_workers, versions),
        "Age": (terminal.age(version.age_seconds) for version in versions),
        "Requests": (f"{version.requests}" for version in versions),
        "Errors (5xx)": (safe(_errors(version), "red" if version.errors else "") for version in versions),
        "Rejections (4xx)": (f"{version.rejections}" for version in versions),
        "Median latency": (terminal.latency(latency.p50) for latency in latencies),
        "95th percentile": (terminal.latency(latency.p95) for latency in latencies),
        "Archive": (terminal.size(version.size) for version in versions),
    }
    columns = (f">{version.version}" for version in versions)
    return terminal.table("", *columns, rows=((name, *cells) for name, cells in rows.items()))


def _state(status: VersionStatus) -> Text:
    return safe(status.state, _STATE_STYLES.get(status.state, ""))


def _workers(status: VersionStatus) -> Text:
    return safe(_ready(status), "" if status.workers.ready >= status.workers.wanted else "bold red")


def _ready(status: VersionStatus) -> str:
    return f"{status.workers.ready}/{status.workers.wanted}"


def _errors(sample: TrafficSample | VersionStatus) -> str:
    return terminal.part(sample.errors, sample.requests)
