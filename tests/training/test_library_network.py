"""Training and evaluation of a network of torchvision."""

import json
from pathlib import Path

from handlers import recipe as recipes
from radserve.build import new_model
from radserve.build.new_model import Draft
from training.evaluate import Options, evaluate
from training.train import Options as TrainOptions
from training.train import train

QUICK = ("epochs=4", "batch=8", "validation=0.3", "average=0.5")


def test_a_network_of_torchvision_is_trained_and_evaluated_like_any_other(films: Path, tmp_path: Path) -> None:
    """SqueezeNet ends with a convolution, which has no bias to correct."""
    spec = {"color": "gray", "channels": 3, "height": 32, "width": 48}
    draft = Draft(
        "mine", "torchvision:squeezenet1_1", ("normal", "pneumonia"), spec, positive="pneumonia", data="chest_xray"
    )
    new_model.create(tmp_path / "archives", draft, "a test")
    folder = tmp_path / "archives" / "mine"
    train(folder, films, tmp_path / "run", TrainOptions(install=True, progress=False, tracker="none", overrides=QUICK))
    trained = recipes.load(folder / "archive.yaml")
    assert trained.input.mean != (0.0, 0.0, 0.0)
    assert trained.weights.sha256 is not None
    result = evaluate(folder, films, tmp_path / "result", Options(overrides=QUICK))
    assert result["validation"] == json.loads((folder / "metrics.json").read_text())["validation"]
