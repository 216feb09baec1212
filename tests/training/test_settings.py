from __future__ import annotations

from pathlib import Path

import pytest

from training import settings
from training.errors import SettingsError

from .conftest import ARCHIVE


def _write(folder: Path, text: str) -> Path:
    path = folder / "training.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_settings_are_valid() -> None:
    assert settings.load(ARCHIVE / "training.yaml").data == "chest_xray"


def test_overrides_win_and_descend(tmp_path: Path) -> None:
    path = _write(tmp_path, "data: chest_xray\nepochs: 3\naugmentation: {rotation: 5}\n")
    found = settings.load(path, ["epochs=7", "augmentation.zoom=[0.9, 1.1]"])
    assert (found.epochs, found.augmentation.rotation, found.augmentation.zoom) == (7, 5, (0.9, 1.1))


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("epochs=none", "key 'epochs' has value 'none'"),
        ("epochs=0", "key 'epochs' has value 0"),
        ("epoch=3", "key 'epoch' has value 3"),
        ("augmentation.zoom=[2, 1]", "zoom has value"),
        ("epochs", "write key=value"),
        ("epochs.more=1", "'epochs' has no keys"),
        ("epochs=[", "is not YAML"),
    ],
)
def test_a_wrong_override_is_named_with_its_value(tmp_path: Path, override: str, told: str) -> None:
    path = _write(tmp_path, "data: chest_xray\nepochs: 3\n")
    with pytest.raises(SettingsError) as caught:
        settings.load(path, [override])
    assert told in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n", "a: [\n"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=r"training\.yaml"):
        settings.load(_write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="missing"):
        settings.load(tmp_path / "training.yaml")
