"""The assessment of an image as a document and as an error."""

from typing import get_args

import pytest

from handlers.domain.assessment import Assessment, Reason, parse_mode
from handlers.errors import DomainModeError
from handlers.response import problem_details


def test_a_rejection_has_the_assessment_as_a_member() -> None:
    rejection = Assessment("unlike", 2.34567, 1.5, 100, "rotated_90").rejection("strict")
    problem = problem_details(rejection)
    assert (problem["status"], problem["title"]) == (422, "Unlike the training images")
    assert problem["domain"] == {
        "mode": "strict",
        "status": "unlike",
        "score": 2.3457,
        "limit": 1.5,
        "percentile": 100,
        "reason": "rotated_90",
    }


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("rotated_90", "repair=rotate-270"),
        ("rotated_180", "repair=rotate-180"),
        ("rotated_270", "repair=rotate-90"),
        ("inverted", "repair=invert"),
        ("other_image", "Send the original image"),
        ("dark", "or have it read without the model"),
        (None, "rotated by 90 degrees, clockwise or counterclockwise. Turn it upright."),
    ],
)
def test_the_message_says_what_to_do(reason: Reason | None, advice: str) -> None:
    assert advice in Assessment("unlike", 2, 1.5, 100, reason).warning


def test_an_image_just_beyond_the_limit_may_be_a_good_one() -> None:
    near, far = (Assessment("unlike", score, 1.5, 99.5, "other_image") for score in (1.79, 1.81))
    assert near.document("strict")["near"] is True
    assert "may be a good image of the right kind" in near.warning
    assert "unlike" not in near.warning
    assert "near" not in far.document("strict")
    assert "another body part" in far.warning
    assert "near" not in Assessment("unusual", 1.49, 1.5, 97, None).document("strict")


def test_a_turned_image_near_the_limit_keeps_its_remedy() -> None:
    assert "repair=rotate-270" in Assessment("unlike", 1.6, 1.5, 99.5, "rotated_90").warning
    assert "Turn it upright" in Assessment("unlike", 1.6, 1.5, 99.5, None).warning


@pytest.mark.parametrize("reason", ["rotated_90", "rotated_180", "rotated_270"])
def test_who_turns_an_image_is_asked_to_compare_the_side_marker(reason: Reason) -> None:
    assert "compare the side marker" in Assessment("unlike", 2, 1.5, 100, reason).warning


@pytest.mark.parametrize(
    ("reason", "stated", "contradicted"),
    [
        ("rotated_90", {"orientation"}, "orientation"),
        ("rotated_180", {"orientation", "polarity"}, "orientation"),
        ("inverted", {"polarity"}, "polarity"),
        ("inverted", {"orientation"}, None),
        ("rotated_270", {"view"}, None),
        ("other_image", {"orientation", "polarity"}, None),
        ("dark", {"orientation", "polarity"}, None),
        (None, {"orientation"}, None),
    ],
)
def test_no_repair_is_suggested_that_the_file_would_contradict(
    reason: Reason | None, stated: set[str], contradicted: str | None
) -> None:
    compared = Assessment("unlike", 2, 1.5, 100, reason).compared(stated)
    assert compared.document("strict").get("contradicts") == contradicted
    if contradicted is not None:
        assert f"The file's {contradicted} contradicts its pixels; correct the file" in compared.warning
        assert "repair=" not in compared.warning


def test_every_reason_has_advice() -> None:
    assert len({Assessment("unlike", 2, 1.5, 100, reason).warning for reason in get_args(Reason)}) == len(
        get_args(Reason)
    )


def test_the_default_mode_is_strict() -> None:
    assert parse_mode("") == "strict"
    assert parse_mode("warn") == "warn"


def test_an_unknown_mode_is_rejected() -> None:
    with pytest.raises(DomainModeError, match="'loose'"):
        parse_mode("loose")
