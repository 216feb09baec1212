"""Second pass of dark images: the gate, the copy, and what the pipeline makes of them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image as Pillow

from handlers import second_pass
from handlers.classification import Classification
from handlers.domain.assessment import Assessment
from handlers.domain.detector import Detector
from handlers.engine import Engine
from handlers.errors import InternalError, RecipeError
from handlers.formats.image import Image
from handlers.pipeline import Pipeline, Result
from handlers.preprocess import preprocess
from handlers.program import Program
from handlers.recipe import Recipe, parse
from handlers.threshold import Decision, decide
from tests.conftest import brightness_recipe
from tests.handlers import images
from tests.handlers.batch import ask

SETS = {"level": 0.9, "quantiles": {"dark": 0.6, "bright": 0.6}, "fitted": "by hand", "split": "0" * 64}
CALIBRATION = {"temperature": 0.1, "prevalence": 0.5, "fitted": "by hand"}
DATA: dict[str, Any] = brightness_recipe() | {"calibration": CALIBRATION, "uncertainty": SETS}
SEEN = DATA | {"second_pass": {"darker_than": 0.1, "fitted": "by hand"}}
RECIPE = parse(SEEN, "test")
SPEC = RECIPE.input


def slices(level: int, margin: int = 40, lowest: float = 0.6) -> NDArray[np.uint8]:
    """Return a square subject with a gradient from a share of a gray level to the level, within black margins."""
    pixels = np.zeros((120, 120), dtype=np.uint8)
    inner = slice(margin, 120 - margin)
    pixels[inner, inner] = np.linspace(lowest * level, level, 120 - 2 * margin).round()
    return pixels


DARK, BRIGHT = images.saved(slices(60), "PNG"), images.saved(slices(250, margin=0), "PNG")
FAINT = images.saved(slices(60, lowest=0.3), "PNG")


def image(pixels: Any) -> Image:
    opened = pixels if isinstance(pixels, Pillow.Image) else Pillow.fromarray(np.asarray(pixels))
    return Image(opened, "png", opened.width, opened.height)


def values(pixels: Any) -> NDArray[Any]:
    return np.asarray(second_pass.copy(image(pixels), SPEC).pixels)


def test_brightness_is_the_mean_times_the_90_percent_quantile() -> None:
    tensor = preprocess(image(slices(200, margin=0)), SPEC)
    gray = tensor[0] * 0.25 + 0.5
    assert second_pass.brightness(tensor, SPEC) == pytest.approx(gray.mean() * np.quantile(gray, 0.9), rel=0.03)
    black, white = (preprocess(image(np.full((40, 40), level, np.uint8)), SPEC) for level in (0, 255))
    assert second_pass.brightness(black, SPEC) == pytest.approx(1e-4)
    assert second_pass.brightness(white, SPEC) == pytest.approx(1)


def test_only_images_darker_than_the_limit_get_a_second_pass() -> None:
    tensor = preprocess(image(slices(100)), SPEC)
    limit = second_pass.brightness(tensor, SPEC)
    for darker_than, is_due in ((limit, False), (limit + 1e-6, True)):
        section = parse(DATA | {"second_pass": {"darker_than": darker_than, "fitted": "x"}}, "test").second_pass
        assert second_pass.is_due(tensor, SPEC, section) is is_due
    assert not second_pass.is_due(tensor, SPEC, None)


def test_the_copy_has_no_dark_margins_and_reaches_white() -> None:
    copied = values(slices(60))
    assert copied.shape == (40, 40)
    assert (copied.min(), copied.max()) == (156, 255)  # 0.6 of white, rounded twice
    noisy = slices(60)
    noisy[::2] = np.maximum(noisy[::2], 5)  # 8 % of the subject's white
    np.testing.assert_array_equal(values(noisy), copied)


@pytest.mark.parametrize("box", [(100, 110, 30, 60), (10, 20, 2, 62), (50, 78, 90, 110), (2, 22, 2, 22)])
def test_a_white_scale_bar_or_letter_beside_the_subject_changes_nothing(box: tuple[int, int, int, int]) -> None:
    marked = slices(60)
    top, bottom, left, right = box
    marked[top:bottom, left:right] = 255
    assert (marked == 255).mean() > 0.005  # enough for the quantile
    np.testing.assert_array_equal(values(marked), values(slices(60)))


def test_a_copy_of_each_mode_keeps_it_and_its_colours() -> None:
    gray = slices(60)
    deep = Pillow.fromarray(gray.astype(np.float32) * 0.5)
    assert values(deep).dtype == np.float32
    np.testing.assert_allclose(values(deep), values(gray), atol=0.6)
    colour = Pillow.fromarray(np.stack([gray, gray // 2, gray], axis=-1))
    assert values(colour).ndim == 2
    spec = SPEC.model_copy(update={"color": "rgb"})
    copied = np.asarray(second_pass.copy(image(colour), spec).pixels)
    assert copied.shape == (40, 40, 3)
    unclipped = copied[:, :, 0] < 255
    assert unclipped.any()
    np.testing.assert_allclose(copied[unclipped, 1], copied[unclipped, 0] / 2, atol=3.5)


@pytest.mark.parametrize("pixels", [np.zeros((40, 40)), np.zeros((1, 1)), np.full((1, 1), 7), np.full((50, 33), 7)])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_degenerate_images_are_copied_whole(pixels: NDArray[Any], kind: Any) -> None:
    copied = values(pixels.astype(kind))
    assert copied.shape == pixels.shape
    np.testing.assert_allclose(copied, 255 if pixels.max() else 0, rtol=1e-6)
    assert np.isfinite(preprocess(image(copied), SPEC)).all()
    assert values(slices(80, margin=50)).shape == (120, 120)  # little would be left without the margins


def test_a_large_image_is_reduced_to_no_less_than_three_times_the_input() -> None:
    copied = second_pass.copy(image(np.full((1000, 2000), 50, np.uint8)), SPEC)
    assert 3 * SPEC.height <= copied.height < 6 * SPEC.height
    assert 3 * SPEC.width <= copied.width


class Counting(Program):
    """Program that records the sizes of its batches, and fails where a batch has a given brightness."""

    def __init__(self, inner: Engine, fails_at: float = np.inf) -> None:
        self.inner, self.fails_at, self.sizes = inner, fails_at, list[int]()

    def run(self, batch: NDArray[np.float32], expected: Sequence[str] = ("logits",)) -> dict[str, NDArray[np.float32]]:
        self.sizes.append(len(batch))
        if (np.abs(batch.mean(axis=(1, 2, 3)) - self.fails_at) < 1e-3).any():
            raise ValueError("boom")
        return dict(self.inner.run(batch, expected))


@pytest.fixture
def program(brightness_archive: Path) -> Counting:
    return Counting(Program(brightness_archive / "program.pt2"))


def decision(result: object, recipe: Recipe = RECIPE) -> Decision:
    assert isinstance(result, Result), result
    return decide(result.outputs["logits"], recipe, result.second_logits)


def test_the_second_passes_of_a_batch_run_together_and_another_label_is_uncertain(program: Counting) -> None:
    results = [decision(item) for item in Pipeline(RECIPE, program, batch=4)([DARK, BRIGHT, FAINT])]
    assert program.sizes == [3, 2]
    assert [item.label for item in results] == ["dark", "bright", "dark"]
    assert [item.certainty.document if item.certainty else None for item in results] == [
        {"status": "uncertain", "prediction_set": ["dark", "bright"], "level": 0.9, "second_label": "bright"},
        {"status": "certain", "prediction_set": ["bright"], "level": 0.9},
        {"status": "uncertain", "prediction_set": ["dark", "bright"], "level": 0.9, "second_label": "bright"},
    ]
    (first,) = (decision(item) for item in Pipeline(parse(DATA, "test"), program)([DARK]))
    assert first.certainty is not None
    assert first.certainty.status == "certain"
    assert results[0].probabilities == pytest.approx(first.probabilities)


def test_a_second_pass_with_the_same_label_leaves_the_prediction_set(program: Counting) -> None:
    calibration = CALIBRATION | {"temperature": 2}
    high = parse(SEEN | {"calibration": calibration, "decision": DATA["decision"] | {"threshold": 0.999}}, "test")
    (result,) = Pipeline(high, program)([DARK])
    certainty = decision(result, high).certainty
    assert certainty is not None
    assert (certainty.status, certainty.prediction_set, certainty.second_label) == ("certain", ("dark",), "dark")


def test_images_that_are_bright_enough_run_once(program: Counting) -> None:
    (result,) = Pipeline(RECIPE, program)([BRIGHT])
    assert program.sizes == [1]
    assert isinstance(result, Result)
    assert result.second_logits is None
    Pipeline(parse(DATA, "test"), program)([DARK])
    assert program.sizes == [1, 1]


def test_a_second_pass_that_fails_is_an_error_of_its_image_only(program: Counting) -> None:
    pipeline = Pipeline(RECIPE, program, batch=4)
    tensor = preprocess(second_pass.copy(pipeline.prepare(DARK).image, SPEC), SPEC)
    program.fails_at = float(tensor.mean())
    failed, bright, faint = pipeline([DARK, BRIGHT, FAINT])
    assert isinstance(failed, InternalError)
    assert decision(bright).label == "bright"
    assert isinstance(faint, Result)
    assert faint.second_logits is not None


class Unlike(Detector):
    """Detector that finds every image unlike the training images."""

    outputs = ()

    def __init__(self) -> None:
        """Need nothing."""

    def assess(self, *_: object) -> Assessment:
        return Assessment("unlike", 2, 1, 100, "dark")


@pytest.mark.parametrize(
    ("rejects_unlike", "exempt", "passes"),
    [(True, None, 1), (False, None, 2), (True, hashlib.sha256(DARK).hexdigest(), 2)],
)
def test_an_image_that_is_rejected_needs_no_second_pass(
    program: Counting, rejects_unlike: bool, exempt: str | None, passes: int
) -> None:
    pipeline = Pipeline(RECIPE, program, exempt=exempt, detector=Unlike(), rejects_unlike=rejects_unlike)
    pipeline([DARK])
    assert program.sizes == [1] * passes


def test_a_stated_prevalence_does_not_change_what_the_second_pass_says(
    brightness_archive: Path, tmp_path: Path
) -> None:
    for path in brightness_archive.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "archive.yaml").write_text(yaml.safe_dump(RECIPE.model_dump(mode="json", exclude_unset=True)))
    service = Classification()
    service.load(tmp_path)
    bodies: list[tuple[Any, dict[str, Any]]] = [(DARK, {}), (DARK, {"x-assurances": "prevalence=0.001"}), (BRIGHT, {})]
    assumed, stated, bright = (document for _, _, document in ask(service, *bodies))
    assert assumed["certainty"]["second_label"] == "bright"
    assert stated["certainty"] == assumed["certainty"]
    assert stated["probabilities"] != assumed["probabilities"]
    assert "second_label" not in bright["certainty"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"uncertainty": None, "second_pass": {"darker_than": 0.1, "fitted": "x"}}, "second_pass needs uncertainty"),
        ({"second_pass": {"darker_than": 0, "fitted": "x"}}, "second_pass.darker_than"),
        ({"second_pass": {"fitted": "x"}}, "second_pass.darker_than"),
    ],
)
def test_a_recipe_with_an_invalid_second_pass_is_rejected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse(DATA | changes, "test")
