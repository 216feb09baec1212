from dataclasses import fields

import pytest

from training.cards import dataset_notes
from training.datasets import DATA_SETS
from training.errors import SettingsError


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_data_set_has_all_texts(name: str) -> None:
    result = dataset_notes.for_dataset(name)
    assert all(getattr(result, field.name).strip() for field in fields(result))
    assert not result.source.endswith(".")


def test_an_unknown_data_set_is_reported_with_the_available_ones() -> None:
    with pytest.raises(SettingsError, match=r"'mnist'.*chest_xray"):
        dataset_notes.for_dataset("mnist")
