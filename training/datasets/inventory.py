"""A description of a data set for the eye: a table for the terminal, a picture of samples."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from PIL import Image as Pillow
from PIL import ImageDraw, ImageFilter, ImageFont, ImageOps
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from training.datasets import Example
from training.datasets.description import Description
from training.datasets.lgg_mri import read_mask
from training.errors import DataError

_SIDE: Final = 128
_GAP: Final = 6
_HEAD: Final = 20
_OUTLINE: Final = (230, 159, 0)
_MOST: Final = 5
"""Rows of a kind that a table lists; the others are counted."""


def table(description: Description, most_problems: int = 20) -> Group:
    """Render a description for the terminal; problems come last, where they are seen."""
    found = Table(box=box.SIMPLE_HEAD, title=description.name, title_justify="left")
    for name in ("What", "Which", "Images"):
        found.add_column(name, justify="right" if name == "Images" else "left")
    images = sum(description.labels.values())
    found.add_row("all", "", str(images))
    _rows(found, "label", description.labels)
    largest = max(description.groups.values(), default=0)
    found.add_row("groups", f"{len(description.groups)}, the largest of {largest}", "")
    _rows(found, "kind", description.kinds)
    _rows(found, "size", {f"{width} x {height}": count for (width, height), count in description.sizes.items()})
    spare = sum(len(same) - 1 for same in description.copies)
    found.add_row("exact copies", f"of {len(description.copies)} files", str(spare))
    if description.masks is not None:
        found.add_row("masks", "all", str(description.masks.pairs))
        found.add_row("", "empty", str(description.masks.empty))
    for name, side in description.sides.items():
        labels = ", ".join(f"{count} {label}" for label, count in sorted(side.labels.items()))
        found.add_row(name, f"{side.groups} groups; {labels}", str(side.images))
    return Group(found, *_verdict(description.problems, most_problems))


def samples(examples: Sequence[Example], path: Path, each: int = 8) -> None:
    """Write a picture of some images of each label, from different groups, with the outline of their masks.

    It shows images of the data: keep it with the results of a run, not in a repository. What cannot be read
    is drawn as a tile that says so.
    """
    labels = sorted({example.label for example in examples})
    height = _HEAD + _SIDE + _GAP
    sheet = Pillow.new("RGB", (_GAP + each * (_SIDE + _GAP), len(labels) * height + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for row, label in enumerate(labels):
        top = _GAP + row * height
        pen.text((_GAP, top), label, fill="black", font=ImageFont.load_default(14))
        for column, example in enumerate(_spread(examples, label, each)):
            sheet.paste(_tile(example), (_GAP + column * (_SIDE + _GAP), top + _HEAD))
    sheet.save(path, format="PNG")


def _rows(found: Table, what: str, counts: Mapping[str, int]) -> None:
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    # Labels are few and each of them matters.
    shown = order if what == "label" else order[:_MOST]
    for place, (name, count) in enumerate(shown):
        found.add_row("" if place else what, name, str(count))
    if rest := order[len(shown) :]:
        found.add_row("", f"{len(rest)} others", str(sum(count for _, count in rest)))


def _verdict(problems: Sequence[str], most: int) -> list[Text]:
    if not problems:
        return [Text("No group and no file is on both sides of the split; every file can be read.", style="green")]
    lines = [Text(f"{len(problems)} problems:", style="bold red"), *(Text(f"- {text}") for text in problems[:most])]
    return [*lines, Text(f"and {len(problems) - most} more")] if len(problems) > most else lines


def _spread(examples: Sequence[Example], label: str, count: int) -> list[Example]:
    """Choose evenly from the label's groups, the middle image of each."""
    groups: defaultdict[str, list[Example]] = defaultdict(list)
    for example in examples:
        if example.label == label:
            groups[example.group].append(example)
    members = list(groups.values())
    count = min(count, len(members))
    chosen = [members[place * len(members) // count] for place in range(count)]
    return [group[len(group) // 2] for group in chosen]


def _tile(example: Example) -> Pillow.Image:
    try:
        return _thumbnail(example)
    except (OSError, SyntaxError, ValueError, DataError):
        tile = Pillow.new("RGB", (_SIDE, _SIDE), "lightgray")
        ImageDraw.Draw(tile).text(
            (_SIDE // 2, _SIDE // 2), "unreadable", "black", ImageFont.load_default(14), anchor="mm"
        )
        return tile


def _thumbnail(example: Example) -> Pillow.Image:
    with Pillow.open(io.BytesIO(example.read())) as image:
        picture = image.convert("RGB")
    if example.mask is not None:
        inside = read_mask(example.mask)
        edge = inside.filter(ImageFilter.MaxFilter(3)).point(lambda value: 255 if value else 0)
        edge.paste(0, mask=inside)
        picture.paste(_OUTLINE, mask=edge)
    return ImageOps.pad(picture, (_SIDE, _SIDE), color="black")
