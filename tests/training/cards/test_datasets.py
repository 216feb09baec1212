from __future__ import annotations

from dataclasses import fields

import pytest

from training.cards import datasets
from training.datasets import DATA_SETS
from training.errors import SettingsError


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_data_set_has_every_word(name: str) -> None:
    found = datasets.of(name)
    assert found.name == name
    assert all(getattr(found, field.name).strip() for field in fields(found))
    assert not found.source.endswith(".")


def test_a_data_set_without_words_is_named_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"'mnist'.*chest_xray"):
        datasets.of("mnist")
