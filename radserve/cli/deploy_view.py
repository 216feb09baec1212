"""How plans, events and states look: tables and lines for people, JSON for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from radserve.deploy import costs
from radserve.deploy.changeset import Change
from radserve.deploy.destroy import Doomed
from radserve.deploy.plan import Plan
from radserve.deploy.progress import Event
from radserve.deploy.state import State

_STYLES: Final = {"Add": "green", "Modify": "yellow", "Remove": "red", "Dynamic": "yellow"}
_PIPE_WIDTH: Final = 200


def console() -> Console:
    """Return a console on standard output; where that is no terminal, lines are not broken at 80."""
    made = Console(highlight=False, markup=False)
    if not made.is_terminal:
        made.width = _PIPE_WIDTH
    return made


def plan(out: Console, planned: Plan) -> None:
    """Show what would be done to one stack."""
    out.print(Text.assemble((planned.name, "bold"), f": {planned.kind}", f" ({planned.note})" if planned.note else ""))
    if planned.changes:
        out.print(_changes(planned.changes))


def money(out: Console, plans: Iterable[Plan]) -> None:
    """Name what costs money of what there would be."""
    out.print(Text("What costs money of all this, and how it is counted:", "bold"))
    for line, count in Counter(line for item in plans for line in item.billed).items():
        out.print(f"  {count} x {line}")
    out.print(f"Prices: {costs.PRICES}")


def unseen(out: Console, name: str, changes: Sequence[Change]) -> None:
    """Show changes that were not in the plan."""
    out.print(Text(f"{name}: these changes show only now", "bold yellow"))
    out.print(_changes(changes))


def event(out: Console, item: Event) -> None:
    """Show something that happened to a resource."""
    style = "red" if item.failed else "green" if item.status.endswith("_COMPLETE") else ""
    line = Text.assemble(f"  {item.time:%H:%M:%S}  ", (f"{item.status:<28}", style), f"{item.logical_id} ({item.type})")
    out.print(line.append(f": {item.reason}") if item.reason else line, soft_wrap=True)


def states(out: Console, environment: str, found: Collection[State]) -> None:
    """Show stacks that are there, and what they give."""
    if not found:
        out.print(f"{environment} has no stack.")
        return
    table = Table("Stack", "Status", "Changed", "Protected", box=box.SIMPLE_HEAD, pad_edge=False)
    for item in found:
        table.add_row(item.name, item.status, f"{item.changed:%Y-%m-%d %H:%M}", "yes" if item.protected else "no")
    out.print(table)
    given = Table("Stack", "Output", "Value", box=box.SIMPLE_HEAD, pad_edge=False)
    for item in found:
        for key, value in sorted(item.outputs.items()):
            given.add_row(item.stack, key, Text(value, overflow="fold"))
    if given.row_count:
        out.print(given)


def states_json(environment: str, found: Collection[State]) -> str:
    """Write the same as JSON."""
    stacks = [
        {
            "stack": item.stack,
            "name": item.name,
            "status": item.status,
            "reason": item.reason,
            "changed": item.changed.isoformat(),
            "protected": item.protected,
            "outputs": item.outputs,
        }
        for item in found
    ]
    return json.dumps({"environment": environment, "stacks": stacks}, indent=2)


def doomed(out: Console, what: Doomed) -> None:
    """Show what would be deleted and what would stay."""
    for item in what.going:
        out.print(Text.assemble(("delete ", "red"), item.name))
    for item in what.kept:
        out.print(f"keep   {item.name} (it holds data, which goes on to cost; --delete-data deletes it)")


def _changes(changes: Iterable[Change]) -> Table:
    table = Table("Action", "Logical ID", "Type", "Replacement", box=box.SIMPLE_HEAD, pad_edge=False)
    for item in changes:
        style = "bold red" if item.replacement == "True" else _STYLES.get(item.action, "")
        table.add_row(Text(item.action, style), item.logical_id, item.type, item.replacement)
    return table
