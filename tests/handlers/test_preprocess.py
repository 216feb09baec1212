"""Preprocessing; scaled decoding must not change predictions."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from handlers import preprocess
from handlers import recipe as recipes
from handlers.formats.decode import decode
from handlers.formats.image import Image
from handlers.program import Program
from handlers.recipe import Input, Recipe
from handlers.threshold import decide
from radserve.torchserve.verified_models import select
from tests.repack import NAME

SPEC = Input(color="gray", channels=3, height=8, width=12, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.4))


def image(pixels: np.ndarray) -> Image:
    picture = Pillow.fromarray(pixels)
    return Image(picture, "png", *picture.size)


def test_gray_is_repeated_and_each_channel_has_its_own_statistics() -> None:
    tensor = preprocess.preprocess(image(np.full((40, 60), 204, np.uint8)), SPEC)
    assert tensor.shape == (3, 8, 12)
    assert tensor.dtype == np.float32
    np.testing.assert_allclose(
        tensor.mean(axis=(1, 2)), [(0.8 - m) / s for m, s in zip(SPEC.mean, SPEC.std, strict=True)]
    )


def test_an_rgb_film_equals_the_gray_one() -> None:
    gray = np.tile(np.arange(0, 240, 4, dtype=np.uint8), (40, 1))
    tensor = preprocess.preprocess(image(np.stack([gray] * 3, axis=-1)), SPEC)
    np.testing.assert_allclose(tensor, preprocess.preprocess(image(gray), SPEC), atol=0.05)


def test_deep_and_eight_bit_samples_share_one_scale() -> None:
    gray = np.tile(np.arange(0, 240, 4, dtype=np.uint8), (40, 1))
    tensor = preprocess.resize(image(gray.astype(np.float32)), SPEC)
    np.testing.assert_allclose(tensor, preprocess.resize(image(gray), SPEC), atol=1 / 255)


def test_colour_models_get_three_channels_in_order() -> None:
    spec = SPEC.model_copy(update={"color": "rgb"})
    red = np.zeros((40, 60, 3), np.uint8)
    red[..., 0] = 255
    np.testing.assert_allclose(preprocess.resize(image(red), spec).mean(axis=(1, 2)), [1, 0, 0])


def test_the_resize_is_antialiased() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (80, 60))
    tensor = preprocess.resize(image(stripes), SPEC)
    np.testing.assert_allclose(tensor, 0.5, atol=0.1)


@pytest.fixture(scope="module")
def model(store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Program]:
    import zipfile

    folder = tmp_path_factory.mktemp("model")
    with zipfile.ZipFile(store / select(store, [NAME])[0].entry.file) as packed:
        packed.extractall(folder)
    return recipes.load(folder / "archive.yaml"), Program(folder / "program.pt2")


def probability(data: bytes, model: tuple[Recipe, Program], at_least: tuple[int, int] | None) -> tuple[float, int]:
    recipe, program = model
    decoded = decode(data, at_least=at_least)
    logits = program.run(preprocess.preprocess(decoded, recipe.input)[None])["logits"][0]
    return decide(logits, recipe).probabilities["pneumonia"], decoded.pixels.width


def test_scaled_decoding_changes_no_probability_of_a_real_film_by_more_than_one_percent(
    model: tuple[Recipe, Program], shared: Path
) -> None:
    margin = preprocess.at_least(model[0].input)
    moves, scaled = [], 0
    for path in sorted((shared / "chest_xray_original").rglob("*.jpeg")):
        whole, width = probability(path.read_bytes(), model, None)
        fast, smaller = probability(path.read_bytes(), model, margin)
        moves.append(abs(whole - fast))
        scaled += smaller < width
    assert scaled > len(moves) / 2, "the decoder scaled hardly any: nothing was shown"
    assert max(moves) < 0.01


def test_the_decoder_never_scales_below_the_margin() -> None:
    out = BytesIO()
    Pillow.fromarray(np.tile(np.arange(256, dtype=np.uint8), (200, 5))).save(out, "JPEG")
    width, height = preprocess.at_least(SPEC)
    decoded = decode(out.getvalue(), at_least=(width, height))
    assert decoded.pixels.width >= width
    assert decoded.pixels.height >= height
    assert (decoded.width, decoded.height) == (1280, 200)
