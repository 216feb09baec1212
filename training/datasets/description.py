"""What a data set holds, and what is wrong with it, before anything is trained on it."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow

from training.datasets.example import Example
from training.datasets.lgg_mri import read_mask
from training.datasets.split import Split
from training.errors import DataError


@dataclass(frozen=True)
class Header:
    """What an image file says of itself: its format, Pillow's mode (`L` is 8 bits, `I;16` is 16), its size."""

    format: str
    mode: str
    width: int
    height: int


@dataclass(frozen=True)
class Side:
    """One side of the split that training would make."""

    images: int
    groups: int
    labels: Mapping[str, int]


@dataclass(frozen=True)
class Masks:
    """True masks: how many there are, and in how many nothing is marked."""

    pairs: int
    empty: int


@dataclass(frozen=True)
class Description:
    """A data set as found.

    Attributes
    ----------
    labels
        Label -> images.
    groups
        Group -> images.
    kinds
        Format, mode, e.g. `JPEG L` -> images.
    sizes
        (width, height) -> images.
    copies
        Names of files with the same bytes, a tuple a set of copies.
    masks
        None where no image has one.
    sides
        `train` and `validation`; empty where no split can be made.
    problems
        Sentences; none where the data set can be trusted as it is.
    """

    name: str
    labels: Mapping[str, int]
    groups: Mapping[str, int]
    kinds: Mapping[str, int]
    sizes: Mapping[tuple[int, int], int]
    copies: tuple[tuple[str, ...], ...]
    masks: Masks | None
    sides: Mapping[str, Side]
    problems: tuple[str, ...]


def of(name: str, examples: Sequence[Example], sides: Split | None, known: Iterable[str] = ()) -> Description:
    """Describe examples and their split; `known` are problems that were found before."""
    with ThreadPoolExecutor() as pool:
        headers = list(pool.map(_header, examples))
        masks = list(pool.map(_marked, examples))
    sound = [header for header in headers if isinstance(header, Header)]
    copies = _copies(examples)
    return Description(
        name=name,
        labels=Counter(example.label for example in examples),
        groups=Counter(example.group for example in examples),
        kinds=Counter(f"{header.format} {header.mode}" for header in sound),
        sizes=Counter((header.width, header.height) for header in sound),
        copies=tuple(tuple(example.name for example in same) for same in copies),
        masks=_masks(masks),
        sides={} if sides is None else _sides(examples, sides),
        problems=(
            *known,
            *(f"{place}: {found}" for place, found in _named(examples, headers) if isinstance(found, str)),
            *(f"{place}: {found}" for place, found in _named(examples, masks) if isinstance(found, str)),
            *_without_mask(examples),
            *_under_two_labels(copies),
            *(() if sides is None else leaks(examples, sides)),
        ),
    )


def leaks(examples: Sequence[Example], sides: Split) -> tuple[str, ...]:
    """Name every group and every file that is on both sides of a split, in sentences."""
    train, validation = ([examples[place] for place in side] for side in (sides.train, sides.validation))
    groups = {example.group for example in train} & {example.group for example in validation}
    there = {example.sha256: example.name for example in train}
    return (
        *(f"Group {group} is on both sides of the split." for group in sorted(groups)),
        *(
            f"{there[example.sha256]} (train) and {example.name} (validation) are the same file."
            for example in validation
            if example.sha256 in there
        ),
    )


def _header(example: Example) -> Header | str:
    """Read the whole image: a header alone does not tell that the rest is missing."""
    try:
        with Pillow.open(io.BytesIO(example.read())) as image:
            image.load()
            return Header(image.format or "unknown", image.mode, *image.size)
    except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError) as error:
        return f"broken, {error}. Repair or remove the file."


def _marked(example: Example) -> bool | str | None:
    """Tell whether the mask marks anything; None without a mask, a sentence where it cannot be used."""
    if example.mask is None:
        return None
    try:
        return bool(np.asarray(read_mask(example.mask)).any())
    except DataError as error:
        return str(error)


def _named(examples: Sequence[Example], found: Sequence[object]) -> Iterable[tuple[str, object]]:
    return ((example.name, item) for example, item in zip(examples, found, strict=True))


def _masks(found: Sequence[bool | str | None]) -> Masks | None:
    known = [item for item in found if item is not None]
    return Masks(len(known), sum(item is False for item in known)) if known else None


def _without_mask(examples: Sequence[Example]) -> Iterable[str]:
    if any(example.mask for example in examples):
        yield from (f"{example.name}: its mask is missing." for example in examples if example.mask is None)


def _copies(examples: Sequence[Example]) -> list[list[Example]]:
    same: defaultdict[str, list[Example]] = defaultdict(list)
    for example in examples:
        same[example.sha256].append(example)
    return [found for found in same.values() if len(found) > 1]


def _under_two_labels(copies: Iterable[Sequence[Example]]) -> Iterable[str]:
    for same in copies:
        if len({example.label for example in same}) > 1:
            told = ", ".join(f"{example.name} ({example.label})" for example in same)
            yield f"One image has several labels: {told}."


def _sides(examples: Sequence[Example], sides: Split) -> dict[str, Side]:
    found = {}
    for name, places in (("train", sides.train), ("validation", sides.validation)):
        side = [examples[place] for place in places]
        found[name] = Side(
            len(side), len({example.group for example in side}), Counter(example.label for example in side)
        )
    return found
