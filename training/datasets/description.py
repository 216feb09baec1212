"""Description of a data set: counts, formats, duplicates and problems, before anything is trained on it."""

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from training.datasets import duplicates
from training.datasets.example import Example
from training.datasets.lgg_mri import read_mask
from training.datasets.split import Split
from training.errors import DataError


@dataclass(frozen=True)
class Side:
    """Counts of one side of the split."""

    images: int
    groups: int
    labels: Mapping[str, int]


@dataclass(frozen=True)
class Masks:
    """Counts of the masks, and of those that are empty."""

    total: int
    empty: int


@dataclass(frozen=True)
class Description:
    """Description of a data set."""

    name: str
    labels: Mapping[str, int]  # label -> images
    groups: Mapping[str, int]  # group -> images
    kinds: Mapping[str, int]  # Pillow's format and mode, such as `JPEG L` -> images
    sizes: Mapping[tuple[int, int], int]  # (width, height) -> images
    copies: tuple[tuple[str, ...], ...]  # names of identical files, a tuple per set of copies
    masks: Masks | None  # None if no image has a mask
    sides: Mapping[str, Side]  # `train` and `validation`; empty if the data set cannot be split
    problems: tuple[str, ...]  # sentences; empty if the data set is usable


def describe(name: str, examples: Sequence[Example], sides: Split | None, problems: Iterable[str] = ()) -> Description:
    """Describe examples and their split; `problems` are already known ones."""
    with ThreadPoolExecutor() as pool:
        headers = list(pool.map(_header, examples))
        marked = list(pool.map(_is_marked, examples))
    readable = [header for header in headers if not isinstance(header, str)]
    masks = [mask for mask in marked if mask is not None]
    copies = [same for same in duplicates.copies(examples) if len(same) > 1]
    return Description(
        name=name,
        labels=Counter(example.label for example in examples),
        groups=Counter(example.group for example in examples),
        kinds=Counter(kind for kind, _ in readable),
        sizes=Counter(size for _, size in readable),
        copies=tuple(tuple(example.name for example in same) for same in copies),
        masks=Masks(len(masks), sum(mask is False for mask in masks)) if masks else None,
        sides={} if sides is None else _sides(examples, sides),
        problems=(
            *problems,
            *_named(examples, headers),
            *_named(examples, marked),
            *_missing_masks(examples),
            *filter(None, map(duplicates.label_conflict, copies)),
            *(() if sides is None else leaks(examples, sides)),
        ),
    )


def leaks(examples: Sequence[Example], sides: Split) -> tuple[str, ...]:
    """Return a sentence for every group and file that is on both sides of a split."""
    train, validation = ([examples[index] for index in side] for side in (sides.train, sides.validation))
    groups = {example.group for example in train} & {example.group for example in validation}
    names = {example.sha256: example.name for example in train}
    return (
        *(f"Group {group} is on both sides of the split." for group in sorted(groups)),
        *(
            f"{names[example.sha256]} (train) and {example.name} (validation) are the same file."
            for example in validation
            if example.sha256 in names
        ),
    )


def _header(example: Example) -> tuple[str, tuple[int, int]] | str:
    """Return kind and size, or a sentence if the image is broken; reads all of it, to detect truncation."""
    try:
        with Pillow.open(io.BytesIO(example.read())) as image:
            image.load()
            return f"{image.format or 'unknown'} {image.mode}", image.size
    except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError) as error:
        # Pillow names the file, here an object in memory by its address.
        problem = "not a known image format" if isinstance(error, UnidentifiedImageError) else error
        return f"broken, {problem}. Repair or remove the file."


def _is_marked(example: Example) -> bool | str | None:
    """Return whether the mask has positive pixels; None without a mask, a sentence if it is broken."""
    if example.mask is None:
        return None
    try:
        return bool(np.asarray(read_mask(example.mask)).any())
    except DataError as error:
        return str(error)


def _named(examples: Sequence[Example], results: Sequence[object]) -> Iterable[str]:
    """Yield the results that are sentences, with the names of their examples."""
    return (f"{example.name}: {item}" for example, item in zip(examples, results, strict=True) if isinstance(item, str))


def _missing_masks(examples: Sequence[Example]) -> Iterable[str]:
    if any(example.mask for example in examples):
        yield from (f"{example.name}: its mask is missing." for example in examples if example.mask is None)


def _sides(examples: Sequence[Example], sides: Split) -> dict[str, Side]:
    result = {}
    for name, indices in (("train", sides.train), ("validation", sides.validation)):
        part = [examples[index] for index in indices]
        labels = Counter(example.label for example in part)
        result[name] = Side(len(part), len({example.group for example in part}), labels)
    return result
