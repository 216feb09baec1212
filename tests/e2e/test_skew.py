"""No skew: what training and evaluation compute in process is what a real server answers, for every task."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from handlers.geometry import Geometry
from handlers.recipe import Recipe
from radserve.build import placeholder
from radserve.build.source import Source, find_sources
from radserve.client import Client
from radserve.schema.prediction import Prediction
from radserve.schema.segmentation import Segmentation
from tests.built_archives import Provide
from tests.conftest import ROOT
from tests.server import running
from training import datasets, networks, weights
from training.batches import Images
from training.datasets import Example, pixels
from training.evaluators import outputs, segmentation

pytestmark = pytest.mark.e2e

CLOSE: Final = 1e-4
COUNT: Final = 20
CLASSIFIERS: Final = {
    "chest-xray-cnn": ("chest_xray", "chest_xray_224"),
    "brain-tumor-cnn-attention": ("brain_tumor", "brain_tumor"),
    "cifar10-lenet": ("cifar10", "cifar10_train_jpeg.tar"),
}
UNET: Final = "glioma-unet"
CASES: Final = 4
"""Of glioma slices, of which each has about twenty."""


@dataclass(frozen=True)
class Model:
    """A served recipe and the folder with its weights."""

    recipe: Recipe
    folder: Path

    def logits(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        """Answer in process, by the path of training and evaluation."""
        recipe = self.recipe
        network = weights.load(networks.create(recipe.network, recipe.outputs), self.folder / recipe.weights.file)
        read = Images(
            pixels=pixels.read(examples, recipe.input),
            targets=torch.tensor([recipe.labels.index(example.label) for example in examples]),
            groups=tuple(example.group for example in examples),
            masks=pixels.masks(examples, recipe.input) if recipe.task == "segmentation" else None,
        )
        return outputs.logits(network, read, recipe.input, len(recipe.labels))


@pytest.fixture(scope="module")
def sources() -> dict[str, Source]:
    """Shipped weights where there are any, random ones elsewhere."""
    result = find_sources(ROOT / "archives", [*CLASSIFIERS, UNET], untrained=True)
    return {source.recipe.name: source for source in result}


@pytest.fixture(scope="module")
def models(sources: dict[str, Source], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    folder = tmp_path_factory.mktemp("models")
    return {name: _model(source, folder / name) for name, source in sources.items()}


def _model(source: Source, folder: Path) -> Model:
    if source.untrained:
        return Model(placeholder.create(source, folder), folder)
    return Model(source.recipe, source.folder)


@pytest.fixture(scope="module")
def client(
    shared: Path, sources: dict[str, Source], provide: Provide, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """Ask one server that has all of them; without images it is not worth starting."""
    del shared
    folder = tmp_path_factory.mktemp("skew")
    provide(folder / "store", list(sources.values()))
    with (
        running(folder / "store", folder / "log", "--workers", "1") as server,
        Client(server.url, timeout=90) as http_client,
    ):
        yield http_client


def _ask(client: Client, name: str, images: Sequence[bytes]) -> list[Any]:
    """Ten images a request: batches form, and none of them takes a slow machine longer than a server waits."""
    starts = range(0, len(images), 10)
    return [answer for start in starts for answer in client.predict_many(name, images[start : start + 10])]


def _spread(examples: Sequence[Example]) -> list[Example]:
    """Take as many as are compared, from the first to the last."""
    return [examples[place] for place in np.linspace(0, len(examples) - 1, COUNT).astype(int)]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_served_probabilities_are_those_of_the_evaluation(
    client: Client, models: dict[str, Model], shared: Path, name: str
) -> None:
    kind, folder = CLASSIFIERS[name]
    examples = _spread(datasets.find(kind, shared / folder))
    model = models[name]
    wanted = outputs.probabilities(model.logits(examples), model.recipe.calibration.temperature)
    answers = _ask(client, name, [example.read() for example in examples])
    served = [answer for answer in answers if isinstance(answer, Prediction)]
    assert len(served) == COUNT, answers
    result = np.array([[answer.probabilities[label] for label in model.recipe.labels] for answer in served])
    spread = np.ptp(wanted, axis=0).max()
    assert spread > 10 * CLOSE, "answers that are all alike would agree in any case"
    # A random network tells images hardly apart: its answers must agree the closer.
    np.testing.assert_allclose(result, wanted, rtol=0, atol=min(CLOSE, spread / 100))


def test_served_masks_are_those_of_the_evaluation(
    client: Client, models: dict[str, Model], shared: Path, tmp_path: Path
) -> None:
    model = models[UNET]
    examples = _spread(datasets.find("lgg_mri", _cases(shared, tmp_path)))
    answers = _ask(client, UNET, [example.read() for example in examples])
    served = [answer for answer in answers if isinstance(answer, Segmentation)]
    assert len(served) == COUNT, answers
    decision = model.recipe.decision
    assert decision is not None
    scaled = model.logits(examples) / np.float32(model.recipe.calibration.temperature)
    wanted = segmentation.predict(scaled, decision.threshold, decision.smallest)
    unsure = np.abs(1 / (1 + np.exp(-scaled[:, 0].astype(np.float64))) - decision.threshold) < CLOSE
    assert wanted.any()
    assert not wanted.all()
    assert unsure.mean() < 0.01
    for answer, mask, open_ in zip(served, wanted, unsure, strict=True):
        size = (answer.mask.width, answer.mask.height)
        expected, left_open = _whole(mask, size, model.recipe), _whole(open_, size, model.recipe)
        result = answer.mask.pixels > 0
        np.testing.assert_array_equal(result[~left_open], expected[~left_open])
        assert answer.area.fraction == pytest.approx(expected.mean(), abs=CLOSE + left_open.mean())


def _cases(shared: Path, tmp_path: Path) -> Path:
    for case in sorted((shared / "lgg_mri" / "kaggle_3m").iterdir())[:CASES]:
        (tmp_path / case.name).symlink_to(case)
    return tmp_path


def _whole(mask: NDArray[np.bool_], size: tuple[int, int], recipe: Recipe) -> NDArray[np.bool_]:
    """Put a mask of the network's geometry back to where it was cut out of a slice of the published size."""
    frame = recipe.input.frame
    assert frame == (size[1], size[0]), "another size would be resized, and its outline interpolated"
    back: NDArray[np.float32] = Geometry.of(*size, recipe.input).back(mask.astype(np.float32), outside=0)
    return back > 0.5
