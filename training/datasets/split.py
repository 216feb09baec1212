"""Training and validation part, by group."""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from training.datasets.example import Example
from training.errors import DataError


@dataclass(frozen=True)
class Split:
    """Which example is on which side.

    Attributes
    ----------
    train, validation
        Places in the list of examples, ascending.
    sha256
        Of the sorted lines `name group side`: equal for equal splits, on every machine.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    sha256: str


def by_group(examples: Sequence[Example], share: float, seed: int) -> Split:
    """Put whole groups aside for validation, about the same share of every label.

    Parameters
    ----------
    share
        Of the examples, for validation.
    seed
        Decides which groups.

    Raises
    ------
    DataError
        If a label has too few groups to be on both sides.
    """
    strata = _strata(examples)
    chosen: set[str] = set()
    for label, groups in sorted(strata.items()):
        picked = _pick(groups, share, random.Random(f"{seed} {label}"))  # noqa: S311 - a split is no secret
        if not picked or len(picked) == len(groups):
            raise DataError(f"Label {label!r} has {len(groups)} groups: too few for a share of {share:g}. Add images.")
        chosen |= picked
    sides = [example.group in chosen for example in examples]
    return Split(
        train=tuple(place for place, aside in enumerate(sides) if not aside),
        validation=tuple(place for place, aside in enumerate(sides) if aside),
        sha256=digest(examples, sides),
    )


def _strata(examples: Sequence[Example]) -> dict[str, dict[str, int]]:
    """Label -> group -> size. A group with several labels counts for the rarest of them."""
    totals: defaultdict[str, int] = defaultdict(int)
    members: defaultdict[str, list[str]] = defaultdict(list)
    for example in examples:
        totals[example.label] += 1
        members[example.group].append(example.label)
    strata: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for group, labels in members.items():
        strata[min(labels, key=lambda label: (totals[label], label))][group] = len(labels)
    return strata


def _pick(groups: dict[str, int], share: float, draw: random.Random) -> set[str]:
    wanted = share * sum(groups.values())
    order = sorted(groups)
    draw.shuffle(order)
    picked: set[str] = set()
    taken = 0
    for group in order:
        # A group that would overshoot by more than it fills is left to smaller ones.
        if taken + groups[group] / 2 <= wanted:
            picked.add(group)
            taken += groups[group]
    return picked


def digest(examples: Sequence[Example], sides: Sequence[bool]) -> str:
    """Hash which example is on which side; `sides` tells whether each is put aside."""
    lines = sorted(
        f"{example.name} {example.group} {'validation' if aside else 'train'}\n"
        for example, aside in zip(examples, sides, strict=True)
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()
