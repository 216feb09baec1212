from pathlib import Path

import pytest

from training import settings
from training.errors import SettingsError

from .conftest import ARCHIVE, ROOT


def _write(folder: Path, text: str) -> Path:
    path = folder / "training.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("folder", sorted((ROOT / "archives").iterdir()), ids=lambda folder: folder.name)
def test_the_shipped_settings_and_search_spaces_are_valid(folder: Path) -> None:
    config = settings.load(folder / "training.yaml")
    assert config.tune
    for end in (0, -1):
        values = {
            key: space.choices[end] if space.choices is not None else (space.low, space.high)[end]
            for key, space in config.tune.items()
        }
        settings.change(config, values)


def test_a_change_descends_and_keeps_the_rest(tmp_path: Path) -> None:
    path = _write(tmp_path, "data: cifar10\nepochs: 3\naugmentation: {rotation: 5, noise: 0.1}\n")
    before = settings.load(path)
    after = settings.change(before, {"augmentation.rotation": 7, "batch": 32})
    assert (after.augmentation.rotation, after.augmentation.noise, after.batch, after.epochs) == (7, 0.1, 32, 3)
    assert before.augmentation.rotation == 5


def test_an_invalid_change_is_reported(tmp_path: Path) -> None:
    before = settings.load(_write(tmp_path, "data: cifar10\n"))
    with pytest.raises(SettingsError, match=r"key 'augmentation\.rotation' has value 999"):
        settings.change(before, {"augmentation.rotation": 999})


@pytest.mark.parametrize(
    "space",
    [
        "{}",
        "{low: 1}",
        "{low: 2, high: 1}",
        "{low: 1, high: 1}",
        "{low: 1, high: 2, choices: [1, 2]}",
        "{lowest: 1, high: 2}",
        "{choices: []}",
        "{low: 0, high: 1, log: true}",
        "{low: 0.5, high: 0.9, whole: true}",
        "{choices: [1, 2], log: true}",
    ],
)
def test_an_invalid_search_space_is_rejected(tmp_path: Path, space: str) -> None:
    with pytest.raises(SettingsError, match=r"key 'tune\.batch"):
        settings.load(_write(tmp_path, f"data: cifar10\ntune: {{batch: {space}}}\n"))


@pytest.mark.parametrize("key", ["data", "validation", "seed", "tune"])
def test_keys_that_change_the_split_cannot_be_searched(tmp_path: Path, key: str) -> None:
    with pytest.raises(SettingsError, match=f"tune must not contain {key}"):
        settings.load(_write(tmp_path, f"data: cifar10\ntune: {{{key}: {{choices: [1, 2]}}}}\n"))


@pytest.mark.parametrize(
    "override",
    [
        "patience=0",
        "dropout=1",
        "dropout=-0.1",
        "average=1",
        "clip=0",
        "augmentation.flip=[sideways]",
        "precision=half",
    ],
)
def test_values_out_of_range_are_reported(tmp_path: Path, override: str) -> None:
    with pytest.raises(SettingsError, match=override.partition("=")[0]):
        settings.load(_write(tmp_path, "data: cifar10\n"), [override])


def test_the_share_of_unusual_images_includes_the_unlike_ones(tmp_path: Path) -> None:
    path = _write(tmp_path, "data: cifar10\ndetector: {components: {shape: 2}, marked: 0.02, refused: 0.03}\n")
    with pytest.raises(SettingsError, match=r"marked is 0\.02; .* must not be below refused, 0\.03"):
        settings.load(path)
    assert settings.load(path, ["detector.marked=0.03"]).detector is not None


def test_letters_are_exchanged_only_at_the_full_size(tmp_path: Path) -> None:
    path = _write(tmp_path, "data: chest_xray\nscale: 0.5\naugmentation: {letters: 0.5}\n")
    with pytest.raises(SettingsError, match="scale must be 1"):
        settings.load(path)
    assert settings.load(path, ["augmentation.letters=0"]).scale == 0.5


def test_overrides_replace_settings_and_descend(tmp_path: Path) -> None:
    path = _write(tmp_path, "data: chest_xray\nepochs: 3\naugmentation: {rotation: 5}\n")
    result = settings.load(path, ["epochs=7", "augmentation.zoom=[0.9, 1.1]"])
    assert (result.epochs, result.augmentation.rotation, result.augmentation.zoom) == (7, 5, (0.9, 1.1))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs=none", "key 'epochs' has value 'none'"),
        ("epochs=0", "key 'epochs' has value 0"),
        ("epoch=3", "unknown key 'epoch' (its value is 3)"),
        ("augmentation.zoom=[2, 1]", "zoom is [2.0, 1.0]"),
        ("epochs", "Expected key=value"),
        ("epochs.more=1", "'epochs' has no keys"),
        ("epochs=[", "invalid YAML"),
    ],
)
def test_an_invalid_override_is_reported_with_its_value(tmp_path: Path, override: str, message: str) -> None:
    path = _write(tmp_path, "data: chest_xray\nepochs: 3\n")
    with pytest.raises(SettingsError) as error:
        settings.load(path, [override])
    assert message in str(error.value)


@pytest.mark.parametrize("text", ["- a\n", "a: [\n"])
def test_settings_that_are_not_a_mapping_are_rejected(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=r"training\.yaml"):
        settings.load(_write(tmp_path, text))


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="not found"):
        settings.load(tmp_path / "training.yaml")


def test_consistency_excludes_mixup() -> None:
    with pytest.raises(SettingsError, match=r"augmentation\.mixup must be 0"):
        settings.load(ARCHIVE / "training.yaml", ["consistency=1", "augmentation.mixup=0.1"])
