"""What happens to unlike images in each mode."""

from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from handlers.domain.assessment import Assessment, Mode, Status
from handlers.domain.policy import Policy, settle
from handlers.errors import BadRequestError, RequestError
from handlers.formats.image import Image, Plane
from handlers.pipeline import PreparedImage, Result
from handlers.response import Prediction
from handlers.volume import Slice

SAMPLE = "5" * 64
UNLIKE = Assessment("unlike", 2, 1.5, 100, "inverted")


def result(assessment: Assessment | None, sha256: str = "a" * 64) -> Result:
    image = Image(Pillow.new("L", (64, 64)), "png", 64, 64)
    return Result(PreparedImage(image, sha256, np.zeros((1, 8, 8), dtype=np.float32)), {}, assessment)


def policy(mode: Mode, *, compares: bool = True) -> Policy:
    return Policy(mode, compares, SAMPLE)


@pytest.mark.parametrize(
    ("mode", "assessment", "sha256", "rejects"),
    [
        ("strict", UNLIKE, "a" * 64, True),
        ("strict", UNLIKE, SAMPLE, False),
        ("strict", Assessment("unusual", 1.2, 1.5, 99, None), "a" * 64, False),
        ("strict", None, "a" * 64, False),
        ("warn", UNLIKE, "a" * 64, False),
    ],
)
def test_only_the_strict_mode_rejects_and_only_unlike_images_but_the_sample(
    mode: Mode, assessment: Assessment | None, sha256: str, *, rejects: bool
) -> None:
    rejection = policy(mode).rejection(result(assessment, sha256))
    assert (rejection is not None) == rejects
    if rejection is not None:
        assert rejection.members["domain"] == UNLIKE.document("strict")


def marked(mode: Mode, assessment: Assessment | None, sha256: str = "a" * 64, *, compares: bool = True) -> Any:
    prediction = Prediction({"label": "dark", "warning": "Not for use."})
    return policy(mode, compares=compares).mark(prediction, result(assessment, sha256)).document


def test_the_warning_about_an_unlike_image_follows_that_of_the_recipe() -> None:
    document = marked("warn", UNLIKE)
    assert document["warning"] == f"Not for use. {UNLIKE.warning}"
    assert (document["domain"], document["label"]) == (UNLIKE.document("warn"), "dark")


def test_the_sample_is_marked_without_a_warning() -> None:
    document = marked("warn", UNLIKE, SAMPLE)
    assert (document["domain"]["status"], document["warning"]) == ("unlike", "Not for use.")


def test_without_a_comparison_only_the_mode_is_stated_and_without_a_detector_nothing() -> None:
    assert marked("off", None)["domain"] == {"mode": "off"}
    assert "domain" not in marked("strict", None, compares=False)


def slice_(status: Status, series: str | None) -> Prediction:
    plane = None if series is None else Plane(series, thickness=1)
    part = Slice(0, "a" * 64, (1, 1), plane, status)
    return Prediction({}, slice=part, rejection=BadRequestError("unlike") if status == "unlike" else None)


@pytest.mark.parametrize(
    ("unlike", "series", "rejected"), [(1, "1.2.3", 0), (2, "1.2.3", 2), (1, None, 1)], ids=["few", "many", "no series"]
)
def test_few_unlike_slices_of_one_series_keep_their_predictions(unlike: int, series: str | None, rejected: int) -> None:
    slices = [slice_("unlike" if index < unlike else "normal", series) for index in range(5)]
    settled = settle(slices)
    assert [isinstance(item, RequestError) for item in settled] == [True] * rejected + [False] * (5 - rejected)
    assert settled[rejected:] == slices[rejected:]


def test_errors_keep_their_place() -> None:
    error = BadRequestError("broken")
    first, second = settle([error, slice_("unlike", None)])
    assert first is error
    assert isinstance(second, RequestError)
