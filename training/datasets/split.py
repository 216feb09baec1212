"""Split of a data set by group into a training and a validation part."""

import hashlib
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from training.datasets.example import Example
from training.errors import DataError


@dataclass(frozen=True)
class Split:
    """A split of a list of examples: the ascending indices of both sides."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    sha256: str  # of the sorted lines `name group side`, equal for equal splits on every machine


def by_group(examples: Sequence[Example], share: float, seed: int) -> Split:
    """Select whole groups for validation, with about equal shares of every label; `DataError` if there are too few."""
    selected: set[str] = set()
    for label, groups in sorted(_groups_by_label(examples).items()):
        validation = _select(groups, share, random.Random(f"{seed} {label}"))  # noqa: S311 - not for security
        if not validation or len(validation) == len(groups):
            raise DataError(f"Label {label!r} has {len(groups)} groups: too few for a share of {share:g}. Add images.")
        selected |= validation
    sides = [example.group in selected for example in examples]
    return Split(
        train=tuple(index for index, in_validation in enumerate(sides) if not in_validation),
        validation=tuple(index for index, in_validation in enumerate(sides) if in_validation),
        sha256=digest(examples, sides),
    )


def _groups_by_label(examples: Sequence[Example]) -> dict[str, dict[str, int]]:
    """Return label -> group -> size; a group with several labels counts for the rarest of them."""
    totals: defaultdict[str, int] = defaultdict(int)
    members: defaultdict[str, list[str]] = defaultdict(list)
    for example in examples:
        totals[example.label] += 1
        members[example.group].append(example.label)
    strata: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for group, labels in members.items():
        strata[min(labels, key=lambda label: (totals[label], label))][group] = len(labels)
    return strata


def _select(groups: dict[str, int], share: float, generator: random.Random) -> set[str]:
    target = share * sum(groups.values())
    order = sorted(groups)
    generator.shuffle(order)
    selected: set[str] = set()
    size = 0
    for group in order:
        # Skip groups that would overshoot by more than half of their size.
        if size + groups[group] / 2 <= target:
            selected.add(group)
            size += groups[group]
    return selected


def digest(examples: Sequence[Example], sides: Sequence[bool]) -> str:
    """Hash a split; `sides` has, for each example, whether it is for validation."""
    lines = sorted(
        f"{example.name} {example.group} {'validation' if in_validation else 'train'}\n"
        for example, in_validation in zip(examples, sides, strict=True)
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()
