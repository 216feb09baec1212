"""External figures: apart from those of validation, and never on images of the training."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handlers import recipe as recipes
from handlers.recipe import Recipe
from tests import command_line
from training import external, recipe_files
from training.datasets import cifar10
from training.datasets.external import find, find_masks
from training.errors import DataError, RunError
from training.evaluate import Options, evaluate
from training.external import Source

from .conftest import LENET, Trained, make_glioma

LABELS = tuple(cifar10.CLASSES.values())


@pytest.fixture
def mine(lenet: Trained, tmp_path: Path) -> Trained:
    copy = lenet.copy(tmp_path)
    settings = copy.folder / "training.yaml"
    shutil.copyfile(copy.out / "training.yaml", settings)
    return copy


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    """Photographs of another source, four of each label, with attributes of most."""
    folder, lines = tmp_path / "hospital", ["file,patient,age,sex"]
    for number, label in enumerate(LABELS * 4):
        (folder / label.upper()).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(1000 + number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / label.upper() / f"{number}.png")
        if number:
            lines.append(f"{label.upper()}/{number}.png,p{number // 2},{number},{'FM'[number % 4 == 0]}")
    (folder / "attributes.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_external_figures_have_their_own_section_and_leave_the_others_unchanged(
    mine: Trained, hospital: Path, tmp_path: Path
) -> None:
    before = json.loads((mine.folder / "metrics.json").read_text())
    arguments = ("cifar10-lenet", "--data", mine.data, "--archives", mine.folder.parent, "--out", tmp_path / "result")
    done = command_line.run("evaluate", *arguments, "--external", "Hospital A", hospital, "--install")
    assert done.returncode == 0, done.stderr
    after = json.loads((mine.folder / "metrics.json").read_text())
    (part,) = after.pop("external")
    assert after == before
    assert part["name"] == "Hospital A"
    assert part["images"]["images"] == 40
    assert part["images"]["groups"] == 21  # the photograph without a row is a group
    assert set(part["metrics"]) == set(before["validation"])
    assert {key: row["images"] for key, row in part["subgroups"]["sex"].items()} == {"F": 30, "M": 9, "unknown": 1}
    assert part["metrics"]["accuracy"]["ci95"] is not None
    assert part["subgroups"]["sex"]["F"]["metrics"]["accuracy"]["ci95"] is not None
    assert part["subgroups"]["sex"]["M"]["metrics"] is None
    card = (mine.folder / "CARD.md").read_text()
    assert "## External results\n" in card
    assert "### Hospital A\n" in card
    assert "| M | 9 | - |" in card


def test_a_second_evaluation_replaces_the_section_and_a_validation_keeps_it(
    mine: Trained, hospital: Path, tmp_path: Path
) -> None:
    for name in ("A", "B", "A"):
        external.evaluate(mine.folder, mine.data, Source(name, hospital), mine.folder, "a test")
    names = [part["name"] for part in json.loads((mine.folder / "metrics.json").read_text())["external"]]
    assert names == ["B", "A"]
    evaluate(mine.folder, mine.data, tmp_path / "result", Options(overrides=LENET))
    kept = json.loads((tmp_path / "result" / "metrics.json").read_text())["external"]
    assert [part["name"] for part in kept] == names


def test_figures_of_another_threshold_are_not_kept(mine: Trained, hospital: Path, tmp_path: Path) -> None:
    external.evaluate(mine.folder, mine.data, Source("A", hospital), mine.folder, "a test")
    recipe = recipes.load(mine.folder / "archive.yaml")
    warmer = recipe.calibration.model_copy(update={"temperature": 2 * recipe.calibration.temperature})
    recipe_files.write(recipe.model_copy(update={"calibration": warmer}), mine.folder / "archive.yaml", "")
    evaluate(mine.folder, mine.data, tmp_path / "result", Options(overrides=LENET))
    assert not json.loads((tmp_path / "result" / "metrics.json").read_text()).get("external")


def test_the_description_of_a_threshold_does_not_make_figures_outdated(recipe: Recipe) -> None:
    assert recipe.decision is not None
    words = recipe.decision.model_copy(update={"chosen": "Otherwise."})
    other = recipe.decision.model_copy(update={"threshold": 0.123})
    assert external.predictor(recipe) == external.predictor(recipe.model_copy(update={"decision": words}))
    assert external.predictor(recipe) != external.predictor(recipe.model_copy(update={"decision": other}))


def test_figures_of_few_groups_have_no_interval(mine: Trained, hospital: Path) -> None:
    lines = (hospital / "attributes.csv").read_text().splitlines()
    rows = [
        ",".join([row.split(",")[0], f"p{number % 4}", *row.split(",")[2:]]) for number, row in enumerate(lines[1:])
    ]
    first = next(path for path in hospital.rglob("0.png")).relative_to(hospital).as_posix()
    (hospital / "attributes.csv").write_text("\n".join([lines[0], *rows, f"{first},p0,,"]) + "\n")
    part = external.evaluate(mine.folder, mine.data, Source("A", hospital), mine.folder, "a test")
    assert part["images"] | {"labels": None} == {"images": 40, "groups": 4, "labels": None}
    assert all(metric["ci95"] is None for metric in part["metrics"].values())
    assert part["metrics"]["accuracy"]["value"] is not None
    assert all(row["metrics"] is None for row in part["subgroups"]["sex"].values())  # 30 images, but 4 patients
    assert "(no interval)" in (mine.folder / "CARD.md").read_text()


def test_images_of_the_training_are_refused(mine: Trained, hospital: Path, tmp_path: Path) -> None:
    example = cifar10.find(mine.data)[3]
    (hospital / example.label.upper() / "used.png").write_bytes(example.read())
    with pytest.raises(DataError, match=r"1 of 41 external images were used .*used\.png"):
        external.evaluate(mine.folder, mine.data, Source("A", hospital), tmp_path / "result", "a test")
    assert not (tmp_path / "result").exists()


def test_another_data_set_than_that_of_the_training_is_refused(mine: Trained, hospital: Path, tmp_path: Path) -> None:
    path = mine.folder / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["split"]["sha256"] = "c" * 64
    path.write_text(json.dumps(metrics))
    with pytest.raises(RunError, match="is not the data of the training"):
        external.evaluate(mine.folder, mine.data, Source("A", hospital), tmp_path / "result", "a test")


def test_other_weights_than_those_of_the_metrics_are_refused(mine: Trained, hospital: Path, tmp_path: Path) -> None:
    (mine.folder / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(RunError, match="different weights"):
        external.evaluate(mine.folder, mine.data, Source("A", hospital), tmp_path / "result", "a test")


def test_ages_are_grouped(hospital: Path) -> None:
    labelled = find(hospital, LABELS)
    ages = dict(zip((example.name for example in labelled.examples), labelled.subgroups["age"], strict=True))
    by_number = {int(Path(name).stem): age for name, age in ages.items()}
    assert [by_number[number] for number in (0, 1, 5, 6, 17, 18, 39)] == [
        "unknown",
        *("1 to 5",) * 2,
        *("6 to 17",) * 2,
        *("18 to 39",) * 2,
    ]


def test_masks_give_the_labels_and_folders_the_patients(tmp_path: Path) -> None:
    top = make_glioma(tmp_path, patients=3, each=4) / "kaggle_3m"
    labelled = find_masks(top, ("background", "tumour"))
    assert len(labelled.examples) == 12
    assert len({example.group for example in labelled.examples}) == 3
    assert [example.label for example in labelled.examples] == ["tumour", "background"] * 6
    mask = labelled.examples[0].mask
    assert mask is not None
    mask.unlink()
    with pytest.raises(DataError, match=r"1 of 12 images lack <image>_mask: .*_1\.tif"):
        find_masks(top, ("background", "tumour"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("missing.png,p,1,F", "name no image"),
        *((f"CAR/1.png,p,{age},F", f"'{age}' is not a number of years") for age in ("old", "nan", "-3", "1e3")),
    ],
)
def test_invalid_attributes_are_reported(hospital: Path, line: str, message: str) -> None:
    (hospital / "attributes.csv").write_text(f"file,patient,age,sex\n{line}\n")
    with pytest.raises(DataError, match=message):
        find(hospital, LABELS)


def test_a_label_without_images_is_reported(hospital: Path) -> None:
    shutil.rmtree(hospital / "CAT")
    with pytest.raises(DataError, match="cat: contains no image"):
        find(hospital, LABELS)
