"""Consoles, tables and readable numbers."""

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Final

import typer
from pydantic import BaseModel
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_WIDTH: Final = 200


def console(*, stderr: bool = False, pipe_width: int | None = None) -> Console:
    """Return a console; without a terminal it does not wrap lines at 80 characters."""
    out = Console(highlight=False, markup=False, stderr=stderr)
    if not out.is_terminal:
        out.width = pipe_width or PIPE_WIDTH
    return out


def print_json(document: BaseModel | Mapping[str, object]) -> None:
    """Print a document as JSON to standard output."""
    if isinstance(document, BaseModel):
        typer.echo(document.model_dump_json(indent=2))
    else:
        typer.echo(json.dumps(document, indent=2))


def table(*columns: str, rows: Iterable[Iterable[str | Text]] = ()) -> Table:
    """Return a table; the prefix `=` of a column prevents wrapping, `>` also aligns it to the right."""
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in columns:
        if name.startswith((">", "=")):
            result.add_column(safe(name[1:]), justify="right" if name.startswith(">") else "left", no_wrap=True)
        else:
            result.add_column(safe(name), overflow="fold")
    for row in rows:
        result.add_row(*(safe(cell) if isinstance(cell, str) else cell for cell in row))
    return result


def safe(text: str, style: str = "") -> Text:
    """Return text without markup, with control characters escaped."""
    printable = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    return Text(encodable(printable), style)


def encodable(text: str) -> str:
    """Escape characters that standard output cannot encode."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def age(seconds: float) -> str:
    """Format a duration in its largest unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(max(seconds, 0))} s"


def latency(seconds: float | None) -> str:
    """Format a response time: milliseconds, or seconds from ten on."""
    if seconds is None:
        return "-"
    if seconds >= 10:
        return f"{seconds:.1f} s"
    milliseconds = seconds * 1000
    return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"


def size(count: int) -> str:
    """Format a number of bytes."""
    return f"{count / 1e6:.1f} MB"


def counted(count: int, noun: str) -> str:
    """Format a number of things: `1 image`, `2 images`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def part(count: int, whole: int) -> str:
    """Format a number with its percentage; rounding never gives 0% or 100%."""
    if not whole or count in (0, whole):
        return f"{count}"
    return f"{count} ({min(max(count / whole, 0.001), 0.999):.1%})"


def fraction(area: float) -> str:
    """Format the marked part of an image; rounding never gives 0% for a marked pixel."""
    return "<0.01%" if 0 < area < 0.00005 else f"{area:.2%}"
