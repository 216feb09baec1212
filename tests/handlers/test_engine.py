"""The engine of an archive is the one that its recipe names, on the CPU."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from handlers import engine
from handlers import recipe as recipes
from handlers.classification import Classification
from handlers.onnx_program import OnnxProgram
from handlers.program import Program
from radserve.build import onnx_export
from tests.handlers.batch import context


@pytest.fixture
def archive(brightness_archive: Path, tmp_path: Path) -> Path:
    """Unpacked archive whose recipe names ONNX Runtime."""
    folder = tmp_path / "archive"
    shutil.copytree(brightness_archive, folder)
    recipe = yaml.safe_load((folder / "archive.yaml").read_text()) | {"runtime": {"engine": "onnxruntime"}}
    (folder / "archive.yaml").write_text(yaml.safe_dump(recipe))
    onnx_export.write(folder / engine.EXPORTED, folder / engine.ONNX)
    return folder


def test_the_recipe_names_the_engine(archive: Path, brightness_archive: Path) -> None:
    chosen, default = (recipes.load(folder / "archive.yaml") for folder in (archive, brightness_archive))
    assert isinstance(engine.load(archive, chosen), OnnxProgram)
    assert isinstance(engine.load(archive, default), Program)
    assert engine.members(chosen) == ("program.pt2", "program.onnx")
    assert engine.members(default) == ("program.pt2",)


def test_other_devices_use_torch(archive: Path) -> None:
    loaded = engine.load(archive, recipes.load(archive / "archive.yaml"), "meta")
    assert isinstance(loaded, Program)
    assert loaded.device.type == "meta"


def test_both_engines_give_equal_predictions(archive: Path, brightness_archive: Path) -> None:
    documents = []
    for folder in (archive, brightness_archive):
        handler = Classification()
        handler.initialize(context(folder, []))
        sample = (folder / "sample.png").read_bytes()
        (result,) = handler.pipeline([sample])
        assert not isinstance(result, Exception)
        documents.append(handler.predict(result).document["probabilities"])
    np.testing.assert_allclose(list(documents[0].values()), list(documents[1].values()), atol=1e-6)
