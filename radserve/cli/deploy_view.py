"""Tables, lines and JSON of `radserve deploy`."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from typing import Final

from rich.console import Console
from rich.text import Text

from radserve.cli import terminal
from radserve.deploy.costs import PRICES
from radserve.deploy.plan import Plan
from radserve.deploy.stack import Change, Event, Stack
from radserve.deploy.teardown import Teardown

_STYLES: Final = {"Add": "green", "Modify": "yellow", "Remove": "red", "Dynamic": "yellow"}


def plan(out: Console, planned: Plan) -> None:
    """Print the plan of one stack."""
    note = f" ({planned.note})" if planned.note else ""
    out.print(Text.assemble((planned.name, "bold"), f": {planned.action}{note}"))
    if planned.changes:
        _changes(out, planned.changes)
    for line in planned.prerequisites.missing:
        out.print(Text.assemble(("  missing: ", "red"), line), soft_wrap=True)
    for line in planned.prerequisites.notes:
        out.print(f"  note: {line}", soft_wrap=True)


def costs(out: Console, plans: Iterable[Plan]) -> None:
    """Print what costs money in all planned stacks."""
    out.print(Text("Resources that cost money, and what for:", "bold"))
    for line, count in Counter(line for item in plans for line in item.costs).items():
        out.print(f"  {count} x {line}")
    out.print(f"Prices: {PRICES}")


def unplanned(out: Console, name: str, changes: Sequence[Change]) -> None:
    """Print changes that the plan did not list."""
    out.print(Text(f"{name}: changes that were not in the plan", "bold yellow"))
    _changes(out, changes)


def progress(out: Console, items: Iterable[str | Event]) -> None:
    """Print lines and events while they arrive."""
    for item in items:
        if isinstance(item, str):
            out.print(item, soft_wrap=True)
            continue
        style = "red" if item.failed else "green" if item.status.endswith("_COMPLETE") else ""
        reason = f": {item.reason}" if item.reason else ""
        line = f"{item.logical_id} ({item.type}){reason}"
        out.print(Text.assemble(f"  {item.time:%H:%M:%S}  ", (f"{item.status:<28}", style), line), soft_wrap=True)


def stacks(out: Console, environment: str, states: Collection[Stack]) -> None:
    """Print stacks and their outputs."""
    if not states:
        out.print(f"{environment} has no stacks.")
        return
    rows = (
        (item.name, item.status, f"{item.changed:%Y-%m-%d %H:%M}", "yes" if item.protected else "no") for item in states
    )
    out.print(terminal.table("Stack", "Status", "=Changed", "Protected", rows=rows))
    outputs = [(item.stack, key, value) for item in states for key, value in sorted(item.outputs.items())]
    if outputs:
        out.print(terminal.table("Stack", "Output", "Value", rows=outputs))


def stacks_json(environment: str, states: Collection[Stack]) -> dict[str, object]:
    """Return stacks and their outputs as a JSON document."""
    keys = ("stack", "name", "status", "reason", "changed", "protected", "outputs")
    items = [{**asdict(item), "changed": item.changed.isoformat()} for item in states]
    return {"environment": environment, "stacks": [{key: item[key] for key in keys} for item in items]}


def teardown(out: Console, planned: Teardown) -> None:
    """Print which stacks are deleted and which are kept."""
    for item in planned.deleted:
        out.print(Text.assemble(("delete ", "red"), item.name))
    for item in planned.kept:
        out.print(f"keep   {item.name} (its data continue to cost money; --delete-data deletes them)")


def _changes(out: Console, changes: Iterable[Change]) -> None:
    rows = (
        (
            Text(item.action, "bold red" if item.replacement == "True" else _STYLES.get(item.action, "")),
            item.logical_id,
            item.type,
            item.replacement,
        )
        for item in changes
    )
    out.print(terminal.table("Action", "Logical ID", "Type", "Replacement", rows=rows))
