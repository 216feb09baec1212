"""How stores look on a terminal: a bar while bytes travel, tables, sizes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from radserve.store import backend
from radserve.store.index import Published
from radserve.store.verify import Report


@contextmanager
def bar(title: str) -> Iterator[backend.Progress]:
    """Show a bar on standard error, if that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    shown = Progress(
        *columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    )
    with shown:
        task = shown.add_task(title, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def archives(listed: Sequence[Published]) -> None:
    """Print archives as a table."""
    table = Table("Name", "Version", "Size", "Pushed", "SHA-256")
    table.columns[2].justify = "right"
    for item in listed:
        table.add_row(item.name, item.version, size(item.size), f"{item.pushed:%Y-%m-%d %H:%M}", item.sha256[:16])
    Console().print(table)


def report(found: Report) -> None:
    """Print what a verification found as a table; what is wrong is said on standard error besides."""
    table = Table("Where", "Name", "Version", "")
    for item in found.checked:
        table.add_row(item.where, item.name, item.version, "wrong" if item.problem else "right")
    Console().print(table)


def size(count: int) -> str:
    """Write a size."""
    return f"{count / 1e6:.1f} MB"
