"""Content negotiation by RFC 9110, section 12.5.1."""

import pytest

from handlers.content_negotiation import negotiate
from handlers.errors import BadRequestError, NotAcceptableError

VIEWS = ("", "mask", "overlay")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", None),
        (" , ", None),
        ("*/*", None),
        ("application/*", None),
        ("application/json", None),
        ("application/json; charset=utf-8", None),
        ("APPLICATION/JSON", None),
        ("image/png", ""),
        ("image/*", ""),
        ("image/png;view=overlay", "overlay"),
        ('IMAGE/PNG; View="overlay"', "overlay"),
        ("image/*;view=mask", "mask"),
        ("image/png, application/json", None),  # equal preference: JSON
        ("image/png, application/json;q=0.9", ""),
        ("image/png;q=0.5, application/json;q=0.4", ""),
        ("application/json;q=0.4, */*;q=0.5", ""),
        ("image/png, */*;q=0.8", ""),
        ("image/png;q=0, */*", None),
        ("*/*;q=0.1, application/json;q=0", ""),
        ("image/png;q=0, image/png;view=overlay", "overlay"),
        ("image/png;view=heat, application/json;q=0.1", None),
        ("image/png;view=;q=0, image/png", "mask"),
        ("text/html, image/avif, */*;q=0.8", None),
        ("image/avif,image/webp,image/*,*/*;q=0.8", ""),
        ("image/png;q=1.000", ""),
    ],
)
def test_the_preferred_representation_is_chosen(accept: str, expected: str | None) -> None:
    assert negotiate(accept, VIEWS) == expected


@pytest.mark.parametrize(
    "accept",
    ["text/html", "application/json;q=0", "image/jpeg", "image/png;view=heat", "*/*;q=0", "image/png;q=0.0", "json"],
)
def test_the_error_lists_every_representation(accept: str) -> None:
    with pytest.raises(NotAcceptableError) as raised:
        negotiate(accept, VIEWS)
    for form in ("application/json", "image/png,", "image/png;view=mask", "image/png;view=overlay"):
        assert form in str(raised.value)


def test_the_image_view_must_be_named() -> None:
    views = ("", "overlay", "image")
    assert negotiate("image/png;view=image", views) == "image"
    assert negotiate("image/*;view=image, application/json;q=0.9", views) == "image"
    assert negotiate("image/png", views) == ""
    for accept in ("image/png", "image/*", "image/png;view=overlay"):
        with pytest.raises(NotAcceptableError, match="image/png;view=image"):
            negotiate(accept, ("image",))
    assert negotiate("image/png, */*;q=0.1", ("image",)) is None


def test_an_unknown_picture_is_not_acceptable() -> None:
    for accept in ("image/png", "image/*", "image/png;view=overlay"):
        with pytest.raises(NotAcceptableError, match=r"available: application/json\."):
            negotiate(accept, ())


@pytest.mark.parametrize("weight", ["2", "-1", "nan", "inf", "high", ""])
def test_an_invalid_weight_is_a_bad_request(weight: str) -> None:
    with pytest.raises(BadRequestError, match="number from 0 to 1"):
        negotiate(f"image/png;q={weight}", VIEWS)
