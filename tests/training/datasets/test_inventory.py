import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from training import datasets, describe
from training.datasets import Example, inventory
from training.datasets.description import Description, Masks, Side
from training.settings import Settings

VALID = Description(
    name="made",
    labels={"no": 3, "yes": 4},
    groups={"a": 5, "b": 2},
    kinds={"JPEG L": 6, "PNG I;16": 1},
    sizes={(10 + index, 20): 1 for index in range(7)},
    copies=(("x", "y", "z"),),
    masks=Masks(7, 2),
    sides={"train": Side(5, 1, {"no": 2, "yes": 3}), "validation": Side(2, 1, {"no": 1, "yes": 1})},
    problems=(),
)


def _text(description: Description) -> str:
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(inventory.table(description))
    return console.export_text()


def _rows(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_table_shows_every_count() -> None:
    rows = _rows(_text(VALID))
    for expected in (
        "all 7",
        "label yes 4",
        "no 3",
        "groups 2, the largest of 5",
        "kind JPEG L 6",
        "PNG I;16 1",
        "2 others 2",
        "exact copies of 1 files 2",
        "masks all 7",
        "empty 2",
        "train 1 groups; 2 no, 3 yes 5",
        "validation 1 groups; 1 no, 1 yes 2",
    ):
        assert expected in rows


def test_the_summary_distinguishes_valid_and_leaking_data_sets() -> None:
    assert "no group and no file is on both sides" in _text(VALID)
    text = _text(replace(VALID, problems=("Group [red]g is on both sides of the split.",)))
    assert "1 problems:" in text
    assert "- Group [red]g is on both sides of the split." in text
    assert "no group and no file" not in text


def test_a_long_list_of_problems_is_truncated() -> None:
    text = _text(replace(VALID, problems=tuple(f"file {index}: broken" for index in range(25))))
    assert "25 problems:" in text
    assert "- file 19: broken" in text
    assert "- file 20: broken" not in text
    assert "and 5 more" in text


def _examples(folder: Path, count: int = 3) -> Sequence[Example]:
    result = []
    for index in range(count):
        path = folder / f"{index}.png"
        Image.new("L", (40, 20), 40 + 60 * index).save(path)
        result.append(Example(path.name, path, "yes", f"g{index}", str(index)))
    return result


def test_samples_show_one_image_per_group(tmp_path: Path) -> None:
    inventory.samples(_examples(tmp_path), tmp_path / "sheet.png", each=4)
    with Image.open(tmp_path / "sheet.png") as sheet:
        values = set(sheet.convert("L").tobytes())
    assert {40, 100, 160} <= values


def test_samples_show_the_outline_of_masks(tmp_path: Path) -> None:
    (example,) = _examples(tmp_path, 1)
    mask = np.zeros((20, 40), dtype=np.uint8)
    mask[8:12, 10:20] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    inventory.samples([example], tmp_path / "plain.png", each=1)
    inventory.samples([replace(example, mask=tmp_path / "mask.png")], tmp_path / "masked.png", each=1)
    with Image.open(tmp_path / "plain.png") as plain, Image.open(tmp_path / "masked.png") as masked:
        assert plain.size == masked.size
        before, after = (np.asarray(sheet.convert("L")).astype(int) for sheet in (plain, masked))
    changed = np.argwhere(abs(after - before) > 40)
    tile = inventory._SIDE / 40
    height = changed[:, 0].max() - changed[:, 0].min()
    width = changed[:, 1].max() - changed[:, 1].min()
    assert (height, width) == pytest.approx((6 * tile, 12 * tile), abs=2 * tile)


def test_a_broken_image_becomes_a_placeholder_tile(tmp_path: Path) -> None:
    examples = _examples(tmp_path)
    examples[1].path.write_bytes(b"nothing")
    inventory.samples(examples, tmp_path / "sheet.png", each=3)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert 211 in set(sheet.convert("L").tobytes())


def test_a_description_of_films_is_rendered(films: Path) -> None:
    result = describe.describe(
        "chest_xray", datasets.find("chest_xray", films), Settings(data="chest_xray", validation=0.3)
    )
    assert "label pneumonia 24" in _rows(_text(result))
    inventory.samples(datasets.find("chest_xray", films), films / "sheet.png")
    with Image.open(films / "sheet.png") as sheet:
        assert sheet.height > 2 * inventory._SIDE
