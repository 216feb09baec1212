"""Renders the description of a data set: a table for the terminal, and an image of samples."""

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
_MAX_ROWS: Final = 5  # rows per kind in the table; the rest is summarised


def table(description: Description, max_problems: int = 20) -> Group:
    """Render a description for the terminal, with the problems last."""
    rows = Table(box=box.SIMPLE_HEAD, title=description.name, title_justify="left")
    for name in ("Kind", "Value", "Images"):
        rows.add_column(name, justify="right" if name == "Images" else "left")
    rows.add_row("all", "", str(sum(description.labels.values())))
    _add_rows(rows, "label", description.labels)
    largest = max(description.groups.values(), default=0)
    rows.add_row("groups", f"{len(description.groups)}, the largest of {largest}", "")
    _add_rows(rows, "kind", description.kinds)
    _add_rows(rows, "size", {f"{width} x {height}": count for (width, height), count in description.sizes.items()})
    extra = sum(len(same) - 1 for same in description.copies)
    rows.add_row("exact copies", f"of {len(description.copies)} files", str(extra))
    if description.masks is not None:
        rows.add_row("masks", "all", str(description.masks.total))
        rows.add_row("", "empty", str(description.masks.empty))
    for name, side in description.sides.items():
        labels = ", ".join(f"{count} {label}" for label, count in sorted(side.labels.items()))
        rows.add_row(name, f"{side.groups} groups; {labels}", str(side.images))
    return Group(rows, *_summary(description.problems, max_problems))


def samples(examples: Sequence[Example], path: Path, each: int = 8) -> None:
    """Write a PNG with images of each label, from different groups, with outlines of their masks; do not commit it."""
    labels = sorted({example.label for example in examples})
    height = _HEAD + _SIDE + _GAP
    sheet = Pillow.new("RGB", (_GAP + each * (_SIDE + _GAP), len(labels) * height + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for row, label in enumerate(labels):
        top = _GAP + row * height
        pen.text((_GAP, top), label, fill="black", font=ImageFont.load_default(14))
        for column, example in enumerate(_sample(examples, label, each)):
            sheet.paste(_tile(example), (_GAP + column * (_SIDE + _GAP), top + _HEAD))
    sheet.save(path, format="PNG")


def _add_rows(rows: Table, kind: str, counts: Mapping[str, int]) -> None:
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = order if kind == "label" else order[:_MAX_ROWS]
    for index, (name, count) in enumerate(shown):
        rows.add_row("" if index else kind, name, str(count))
    if rest := order[len(shown) :]:
        rows.add_row("", f"{len(rest)} others", str(sum(count for _, count in rest)))


def _summary(problems: Sequence[str], limit: int) -> list[Text]:
    if not problems:
        return [Text("Every file can be read; no group and no file is on both sides of the split.", style="green")]
    lines = [Text(f"{len(problems)} problems:", style="bold red"), *(Text(f"- {text}") for text in problems[:limit])]
    return [*lines, Text(f"and {len(problems) - limit} more")] if len(problems) > limit else lines


def _sample(examples: Sequence[Example], label: str, count: int) -> list[Example]:
    """Select evenly spaced groups of a label, and the middle image of each."""
    groups: defaultdict[str, list[Example]] = defaultdict(list)
    for example in examples:
        if example.label == label:
            groups[example.group].append(example)
    members = list(groups.values())
    count = min(count, len(members))
    selected = [members[index * len(members) // count] for index in range(count)]
    return [group[len(group) // 2] for group in selected]


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
