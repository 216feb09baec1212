"""The pipeline: an error concerns its own image only."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow

from handlers.engine import Engine
from handlers.errors import (
    BadRequestError,
    DeviceLostError,
    InternalError,
    ServiceUnavailableError,
    UnreadableImageError,
)
from handlers.formats.image import Limits
from handlers.formats.raw import RawSamples
from handlers.pipeline import Pipeline, PreparedImage, Result, attempt, model_error
from handlers.program import Program
from handlers.recipe import Recipe
from handlers.repair import Repair
from handlers.scope.scope import NO_ASSURANCES
from handlers.tracing import Trace
from tests.handlers import images


def film(width: int = 96, height: int = 64, low: int = 20, high: int = 240) -> bytes:
    gradient = np.tile(np.linspace(low, high, width).astype(np.uint8), (height, 1))
    out = BytesIO()
    Pillow.fromarray(gradient).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def pipeline(brightness: Recipe, brightness_archive: Path) -> Pipeline:
    return Pipeline(brightness, Program(brightness_archive / "program.pt2"), batch=4)


def logits(result: object) -> NDArray[np.float32]:
    assert isinstance(result, Result), result
    return result.outputs["logits"]


def test_a_batch_of_mixed_sizes_gives_the_results_of_single_images(pipeline: Pipeline) -> None:
    films = [film(40 + 30 * index, 35 + 20 * index, low=10 * index) for index in range(7)]
    together = pipeline(films)
    for data, result in zip(films, together, strict=True):
        (alone,) = pipeline([data])
        np.testing.assert_allclose(logits(result), logits(alone), atol=1e-5)


def test_a_broken_image_fails_alone_and_order_is_kept(pipeline: Pipeline) -> None:
    first, broken, refused, last = pipeline([film(low=0), b"\xff\xd8\xff", BadRequestError("before"), film(low=200)])
    assert isinstance(broken, UnreadableImageError)
    assert isinstance(refused, BadRequestError)
    assert logits(last)[1] > logits(first)[1]


def test_no_more_images_than_a_batch_are_decoded_ahead(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes | RawSamples] = []
    prepare = Pipeline.prepare

    def counted(self: Pipeline, data: bytes | RawSamples, limits: Limits | None = None, *rest: Any) -> PreparedImage:
        decoded.append(data)
        return prepare(self, data, limits, *rest)

    monkeypatch.setattr(Pipeline, "prepare", counted)
    results = pipeline.stream((film(low=10 * index), Limits(), Trace(), NO_ASSURANCES, None) for index in range(9))
    assert [len(decoded) for _ in results] == [4, 4, 4, 4, 8, 8, 8, 8, 9]
    decoded.clear()
    few = replace(pipeline, limits=Limits(pixels=2 * 96 * 64 - 1))
    images = ((film(), Limits(), Trace(), NO_ASSURANCES, None) for _ in range(5))
    assert [len(decoded) for _ in few.stream(images)] == [2, 2, 4, 4, 5]


def test_raw_samples_give_the_result_of_the_same_pixels_in_a_file(pipeline: Pipeline) -> None:
    spec = pipeline.recipe.input.model_copy(update={"height": 32, "width": 40, "raw": True})
    raw = Pipeline(pipeline.recipe.model_copy(update={"input": spec}), pipeline.program)
    pixels = np.tile(np.linspace(20, 240, 40).astype(np.uint8), (3, 32, 1))
    out = BytesIO()
    Pillow.fromarray(pixels.transpose(1, 2, 0)).save(out, "PNG")
    bare, file = raw([RawSamples(pixels.tobytes()), out.getvalue()])
    np.testing.assert_array_equal(logits(bare), logits(file))
    assert isinstance(bare, Result)
    assert bare.prepared.sha256 == hashlib.sha256(pixels.tobytes()).hexdigest()


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_repaired_image_gives_the_result_of_the_image_as_it_was(pipeline: Pipeline, quarters: int, form: str) -> None:
    pixels = images.film(512, 1024)  # much larger than the input, so that the decoder of JPEG scales down
    upright, turned = (images.saved(np.rot90(pixels, count), form) for count in (0, quarters))
    requested = Repair(f"rotate-{90 * quarters}")
    expected, repaired = pipeline.prepare(upright), pipeline.prepare(turned, requested=requested)
    assert (repaired.image.width, repaired.image.height, repaired.repair) == (1024, 512, requested)
    assert (repaired.image.pixels.size == (1024, 512)) is (form == "PNG")
    difference = np.abs(repaired.tensor - expected.tensor)
    assert difference.max() == 0 if form == "PNG" else difference.mean() < 0.05
    assert repaired.sha256 == hashlib.sha256(turned).hexdigest()


class Fragile(Program):
    """Program that fails on some batches."""

    def __init__(self, inner: Engine, error: Exception, unbearable: float) -> None:
        self.inner, self.error, self.unbearable = inner, error, unbearable

    def run(self, batch: NDArray[np.float32], expected: Sequence[str] = ("logits",)) -> dict[str, NDArray[np.float32]]:
        if batch.mean(axis=(1, 2, 3)).max() > self.unbearable:
            raise self.error
        return dict(self.inner.run(batch, expected))


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (ValueError("boom"), InternalError),
        (MemoryError("out of memory"), ServiceUnavailableError),
        (MemoryError("Unable to allocate 8.00 GiB for an array"), ServiceUnavailableError),
        (RuntimeError("CUDA out of memory. Tried to allocate"), ServiceUnavailableError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"), ServiceUnavailableError),
    ],
)
def test_an_image_on_which_the_model_fails_does_not_affect_the_others(
    pipeline: Pipeline, error: Exception, answer: type
) -> None:
    fragile = Pipeline(pipeline.recipe, Fragile(pipeline.program, error, unbearable=1.0), batch=4)
    dark, bright, again = fragile([film(high=90), film(low=190), film(high=90)])
    assert isinstance(bright, answer)
    np.testing.assert_allclose(logits(dark), logits(again))
    assert "boom" not in str(bright)


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: torch.empty(1 << 50),  # "DefaultCPUAllocator: can't allocate memory"
        lambda: np.empty(1 << 60, np.uint8),  # "Unable to allocate 1.00 EiB for an array"
        lambda: bytearray(1 << 60),  # without a text
        lambda: torch.from_numpy(np.zeros(1, np.float32)).expand(1 << 50).clone(),
    ],
)
def test_an_allocation_that_fails_is_503_in_every_step(allocate: Callable[[], object]) -> None:
    with pytest.raises((MemoryError, RuntimeError)) as raised:
        allocate()
    assert isinstance(model_error(raised.value), ServiceUnavailableError)
    assert isinstance(attempt("preparing this image", allocate), ServiceUnavailableError)


def test_a_lost_device_is_raised(pipeline: Pipeline) -> None:
    fragile = Pipeline(pipeline.recipe, Fragile(pipeline.program, DeviceLostError("gone"), unbearable=-9), batch=4)
    with pytest.raises(DeviceLostError):
        fragile([film()])


def test_memory_that_runs_out_in_preparing_is_a_503(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handlers.suitability.check", lambda *_: np.empty((1 << 50,)))
    (answer,) = pipeline([film()])
    assert isinstance(answer, ServiceUnavailableError)


def test_an_unexpected_error_in_preparing_becomes_an_internal_error_without_its_text(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        try:
            raise KeyError("DOE^JANE")
        except KeyError as error:
            raise LookupError("secret") from error

    monkeypatch.setattr("handlers.suitability.check", broken)
    (answer,) = pipeline([film()])
    assert isinstance(answer, InternalError)
    assert "secret" not in str(answer)
    (note,) = answer.__notes__
    assert "in broken\n" in note
    assert note.splitlines()[-1] == "KeyError"
    assert "LookupError\ncaused by:\n" in note
    # The message may quote the image, and the log must not.
    assert "DOE^JANE" not in note.replace('raise KeyError("DOE^JANE")', "")


def test_a_prevalence_is_rejected_unless_the_probabilities_assume_one(pipeline: Pipeline) -> None:
    stated = replace(NO_ASSURANCES, prevalence=0.1)
    with pytest.raises(BadRequestError, match="brightness does not accept a prevalence"):
        pipeline.prepare(film(), assurances=stated)
    calibration = pipeline.recipe.calibration.model_copy(update={"prevalence": 0.5})
    assumed = replace(pipeline, recipe=pipeline.recipe.model_copy(update={"calibration": calibration}))
    assert assumed.prepare(film(), assurances=stated).prevalence == 0.1


def test_equal_channels_are_noted_with_the_scope(pipeline: Pipeline) -> None:
    scope = pipeline.recipe.scope.model_copy(update={"sequences": ("T1", "FLAIR", "T2")})
    noting = replace(pipeline, recipe=pipeline.recipe.model_copy(update={"scope": scope}))
    document = noting.prepare(film()).scope.document
    assert document["notes"] == ["The 3 channels are equal: T1, FLAIR and T2 cannot be told apart."]
    assert "notes" not in pipeline.prepare(film()).scope.document
