from dataclasses import replace
from pathlib import Path

from PIL import Image

from tests.training.slices import make_slices
from training import datasets
from training.datasets import Example, description
from training.datasets.split import Split


def test_missing_and_broken_masks_are_problems(tmp_path: Path) -> None:
    examples = list(datasets.find("lgg_mri", make_slices(tmp_path)))
    broken = examples[1].mask
    assert broken is not None
    broken.write_bytes(b"not a mask")
    examples[0] = replace(examples[0], mask=None)
    result = description.describe("lgg_mri", examples, None)
    assert len(result.problems) == 2
    assert f"{examples[0].name}: its mask is missing." in result.problems
    assert any(
        problem.startswith(f"{examples[1].name}: ") and "cannot be read as a mask" in problem
        for problem in result.problems
    )


def _example(tmp_path: Path, name: str, **changes: str) -> Example:
    path = tmp_path / f"{name}.png"
    Image.new("L", (8, 8), ord(name) % 200).save(path)
    return Example(**({"name": name, "path": path, "label": "no", "group": name, "sha256": name} | changes))  # type: ignore[arg-type]


def test_a_group_on_both_sides_is_a_leak(tmp_path: Path) -> None:
    examples = [_example(tmp_path, "a", group="g"), _example(tmp_path, "b"), _example(tmp_path, "c", group="g")]
    result = description.describe("made", examples, Split((0, 1), (2,), "0"))
    assert result.problems == ("Group g is on both sides of the split.",)


def test_a_file_on_both_sides_is_a_leak(tmp_path: Path) -> None:
    examples = [_example(tmp_path, "a", sha256="s"), _example(tmp_path, "b"), _example(tmp_path, "c", sha256="s")]
    result = description.describe("made", examples, Split((0, 1), (2,), "0"))
    assert result.problems == ("a (train) and c (validation) are the same file.",)
    assert description.describe("made", examples, Split((0, 2), (1,), "0")).problems == ()


def test_a_file_with_two_labels_is_a_problem(tmp_path: Path) -> None:
    examples = [_example(tmp_path, "a", sha256="s"), _example(tmp_path, "c", sha256="s", label="yes")]
    assert description.describe("made", examples, None).problems == (
        "Identical files have different labels: a (no), c (yes).",
    )
