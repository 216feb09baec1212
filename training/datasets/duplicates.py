"""Exact duplicates among examples: files with the same bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from training.datasets.example import Example
from training.errors import DataError


def join(examples: Sequence[Example]) -> tuple[Example, ...]:
    """Make one group of all groups that share a file.

    Raises
    ------
    DataError
        If the same bytes stand under two labels.
    """
    copies: defaultdict[str, list[Example]] = defaultdict(list)
    for example in examples:
        copies[example.sha256].append(example)
    parent = {example.group: example.group for example in examples}
    for same in copies.values():
        _check(same)
        roots = {_root(parent, example.group) for example in same}
        parent |= dict.fromkeys(roots, min(roots))
    return tuple(replace(example, group=_root(parent, example.group)) for example in examples)


def _check(same: Sequence[Example]) -> None:
    if len({example.label for example in same}) > 1:
        told = ", ".join(f"{example.name} ({example.label})" for example in same)
        raise DataError(f"One image has several labels: {told}. Remove the wrong ones.")


def _root(parent: dict[str, str], group: str) -> str:
    while parent[group] != group:
        group = parent[group]
    return group
