"""Prediction sets of a trained model: `radserve train` and `radserve calibrate`."""

import json
from pathlib import Path

import pytest
import yaml

from handlers import recipe as recipes
from handlers.recipe import Recipe
from training import recalibration
from training.calibrate import _with_assumptions, calibrate
from training.errors import RunError
from training.external import predictor
from training.metrics import report
from training.settings import Settings
from training.train import Options, train

from .conftest import Trained, copy_archive, make_archive, make_films, make_glioma


@pytest.fixture(scope="module")
def trained(quick: Settings, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folder of a model that was trained for one epoch, and its films."""
    root = tmp_path_factory.mktemp("calibrate")
    settings = quick.model_copy(update={"validation": 0.5, "second_pass": 0.2})
    folder, films = make_archive(root / "archives" / "chest-xray-cnn", settings), make_films(root / "films")
    train(folder, films, root / "run", Options(install=True, progress=False, tracker="none", overrides=("epochs=1",)))
    return folder, films


def test_a_training_and_a_calibration_fit_the_same_sets(trained: tuple[Path, Path]) -> None:
    folder, films = trained
    files = [folder / name for name in ("archive.yaml", "CARD.md")]
    recipe, before = recipes.load(files[0]), [path.read_text() for path in files]
    assert recipe.uncertainty is not None
    assert recipe.uncertainty.split == report.load(folder / "metrics.json").split.sha256
    assert "validation films of" in recipe.uncertainty.fitted
    assert recipe.calibration.prevalence == 0.5
    assert calibrate(folder, films, install=True) == recipe
    assert [path.read_text() for path in files] == before


def test_a_recipe_of_an_earlier_release_gets_its_sections(
    trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, films = trained
    path = folder / "archive.yaml"
    complete = recipes.load(path)
    old = yaml.safe_load(path.read_text())
    del old["uncertainty"], old["second_pass"], old["calibration"]["prevalence"], old["decision"]["sensitivity"]
    path.write_text(yaml.safe_dump(old))
    calibrate(folder, films, install=False)
    assert recipes.load(path).uncertainty is None
    monkeypatch.setattr(recalibration, "min_groups", lambda _: 5)
    calibrate(folder, films, install=True)
    assert recipes.load(path) == complete
    measured = report.load(folder / "metrics.json").certainty
    assert measured is not None
    assert {"accuracy", "accuracy_certain", "uncertain", "coverage of normal", "second_pass"} <= set(measured)
    text = (folder / "CARD.md").read_text()
    assert "| share of uncertain results |" in text
    assert "| share of results with a second pass |" in text
    assert complete.second_pass is not None
    assert f"gray levels is below {complete.second_pass.darker_than:.4f}, a brightened copy" in text
    assert complete.uncertainty is not None
    assert complete.uncertainty.margin > 0
    assert f"changed the log-odds by at most {complete.uncertainty.margin:.3f} in 95% of copies" in text
    assert "prediction sets and limit of second passes refitted" in text
    config = folder / "training.yaml"
    config.write_text(config.read_text().replace("second_pass: 0.2\n", ""))
    without = calibrate(folder, films, install=True)
    assert without == recipes.load(path) == complete.model_copy(update={"second_pass": None})
    assert "second_pass" not in (report.load(folder / "metrics.json").certainty or {})


def test_recorded_assumptions_stay(recipe: Recipe) -> None:
    assert recipe.decision is not None
    decision = recipe.decision.model_copy(update={"sensitivity": 0.8})
    recorded = recipe.model_copy(
        update={"decision": decision, "calibration": recipe.calibration.model_copy(update={"prevalence": 0.3})}
    )
    assert _with_assumptions(recorded, 0.95) == recorded


def test_a_model_with_many_labels_has_nothing_to_fit(lenet: Trained) -> None:
    assert recipes.load(lenet.folder / "archive.yaml").uncertainty is None
    with pytest.raises(RunError, match="10 labels have no threshold"):
        calibrate(lenet.folder, lenet.data, install=False)


def test_the_decision_of_a_segmentation_is_fitted_again_with_its_settings(tmp_path: Path) -> None:
    folder, slices = copy_archive(tmp_path / "archives", "glioma-unet"), make_glioma(tmp_path / "lgg", 4, each=2)
    path = folder / "training.yaml"
    path.write_text("data: lgg_mri\nvalidation: 0.5\nepochs: 1\nbatch: 4\n")
    train(folder, slices, tmp_path / "run", Options(install=True, progress=False, tracker="none"))
    trained = recipes.load(folder / "archive.yaml")
    metrics = folder / "metrics.json"
    released = json.loads(metrics.read_text())
    figures = {"name": "A", "command": "x", "sha256": "0" * 64, "predictor": predictor(trained), "interval": "x"}
    figures |= {"images": released["split"]["validation"], "metrics": released["validation"]}
    metrics.write_text(json.dumps(released | {"external": [figures]}))
    assert calibrate(folder, slices, install=True) == trained
    assert [part.name for part in report.load(metrics).external] == ["A"]
    path.write_text(path.read_text() + "false_alarms: 0\n")
    changed = calibrate(folder, slices, install=True)
    assert changed == recipes.load(folder / "archive.yaml")
    assert changed.decision is not None
    assert "at most 0% of empty slices" in changed.decision.chosen
    assert changed.weights == trained.weights
    assert report.load(metrics).external == ()  # they are of another decision
    assert report.load(metrics).command == released["command"]
    assert changed.decision.chosen in (folder / "CARD.md").read_text().replace("\n", " ")
