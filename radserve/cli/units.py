"""Formats numbers for people."""

from __future__ import annotations


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


def part(count: int, whole: int) -> str:
    """Format a number with its percentage; rounding never gives 0% or 100%."""
    if not whole or count in (0, whole):
        return f"{count}"
    return f"{count} ({min(max(count / whole, 0.001), 0.999):.1%})"
