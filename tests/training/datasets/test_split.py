from pathlib import Path

import pytest

from training import datasets
from training.datasets import Example, split
from training.errors import DataError


def _examples(groups: int, label: str, each: int = 1) -> list[Example]:
    return [
        Example(f"{label}/{group}-{index}", Path(), label, f"{label}-{group}", "")
        for group in range(groups)
        for index in range(each)
    ]


def _assert_apart(examples: tuple[Example, ...], sides: split.Split) -> None:
    train = {examples[index].group for index in sides.train}
    validation = {examples[index].group for index in sides.validation}
    assert not train & validation
    assert sorted(sides.train + sides.validation) == list(range(len(examples)))


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_on_both_sides(seed: int) -> None:
    examples = (*_examples(30, "a", each=4), *_examples(50, "b", each=2))
    _assert_apart(examples, split.by_group(examples, 0.2, seed))


@pytest.mark.parametrize("seed", range(5))
def test_no_patient_or_file_of_the_real_films_is_on_both_sides(real: Path, seed: int) -> None:
    examples = datasets.find("chest_xray", real)
    sides = split.by_group(examples, 0.15, seed)
    _assert_apart(examples, sides)
    files = [{examples[index].sha256 for index in side} for side in (sides.train, sides.validation)]
    assert not files[0] & files[1]


def test_every_label_contributes_its_share() -> None:
    examples = (*_examples(200, "a"), *_examples(100, "b", each=3))
    sides = split.by_group(examples, 0.2, seed=3)
    labels = [examples[index].label for index in sides.validation]
    assert labels.count("a") == pytest.approx(40, abs=1)
    assert labels.count("b") == pytest.approx(60, abs=3)


def test_the_seed_determines_the_split() -> None:
    examples = (*_examples(30, "a"), *_examples(30, "b"))
    first = split.by_group(examples, 0.2, seed=1)
    assert first == split.by_group(examples, 0.2, seed=1)
    assert first.sha256 != split.by_group(examples, 0.2, seed=2).sha256


def test_the_hash_is_independent_of_the_order_of_files() -> None:
    examples = (*_examples(30, "a"), *_examples(30, "b"))
    assert split.by_group(examples, 0.2, 1).sha256 == split.by_group(examples[::-1], 0.2, 1).sha256


def test_a_label_with_one_group_cannot_be_split() -> None:
    with pytest.raises(DataError, match="Label 'b' has 1 groups"):
        split.by_group((*_examples(30, "a"), *_examples(1, "b", each=9)), 0.2, 1)
