"""Terminal output of `radserve store`: progress bars and tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from radserve.store import storage
from radserve.store.index import PublishedArchive
from radserve.store.store import Report


@contextmanager
def progress_bar(title: str) -> Iterator[storage.Progress]:
    """Show a progress bar on standard error if that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(
        *columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    )
    with bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_archives(archives: Sequence[PublishedArchive]) -> None:
    """Print archives as a table."""
    table = Table("Name", "Version", "Size", "Pushed", "SHA-256")
    table.columns[2].justify = "right"
    for item in archives:
        table.add_row(item.name, item.version, megabytes(item.size), f"{item.pushed:%Y-%m-%d %H:%M}", item.sha256[:16])
    Console().print(table)


def print_report(report: Report) -> None:
    """Print the results of a verification as a table."""
    table = Table("Where", "Name", "Version", "Status")
    for item in report.checked:
        table.add_row(item.where, item.name, item.version, "damaged" if item.problem else "intact")
    Console().print(table)


def megabytes(size: int) -> str:
    """Format a number of bytes."""
    return f"{size / 1e6:.1f} MB"
