"""Chooses the representation of a response from the Accept header (RFC 9110, section 12.5.1)."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from handlers.errors import BadRequestError, NotAcceptableError

JSON: Final = "application/json"
PNG: Final = "image/png"
IMAGE: Final = "image"
"""View of the decoded image. It holds no prediction, so only a client that names it gets it."""
_MAX_SHOWN: Final = 200
"""Most characters of a header that an error message repeats."""


@dataclass(frozen=True)
class _Range:
    """One media range of an Accept header; parameters other than `view` and `q` are ignored."""

    media: str
    view: str | None
    quality: float

    def matches(self, media: str, view: str) -> bool:
        kind = media.partition("/")[0]
        view_matches = self.view == view or (self.view is None and view != IMAGE)
        return view_matches and self.media in ("*/*", f"{kind}/*", media)

    @property
    def specificity(self) -> tuple[int, bool]:
        """Sort key: of the ranges that match, the most specific one counts."""
        return 2 - self.media.count("*"), self.view is not None


def negotiate(accept: str, views: Collection[str]) -> str | None:
    """Choose the representation of a response: None for JSON, else the name of the picture.

    An empty Accept header accepts everything. Of the views, `image/png` alone selects `""`, and `IMAGE` must be named.
    Of equal preferences JSON wins, then the order of `views`.
    """
    ranges = [_range(item) for item in accept.split(",") if item.strip()]
    if not ranges:
        return None
    forms: list[str | None] = [None, *views]
    qualities = [_quality(ranges, form) for form in forms]
    best = max(qualities)
    if best == 0:
        offers = ", ".join(JSON if form is None else f"{PNG};view={form}" if form else PNG for form in forms)
        raise NotAcceptableError(f"Accept: {accept[:_MAX_SHOWN]} matches no representation; available: {offers}.")
    return forms[qualities.index(best)]


def _quality(ranges: list[_Range], form: str | None) -> float:
    media, view = (JSON, "") if form is None else (PNG, form)
    # Views do not apply to JSON, so a range matches it with any view.
    matching = [item for item in ranges if item.matches(media, item.view or "" if form is None else view)]
    return max(matching, key=lambda item: (item.specificity, item.quality)).quality if matching else 0


def _range(text: str) -> _Range:
    media, *parameters = (part.strip() for part in text.split(";"))
    values = dict(_parameter(part) for part in parameters)
    try:
        quality = float(values.get("q", "1"))
    except ValueError:
        quality = -1
    if not 0 <= quality <= 1:
        raise BadRequestError(f"Accept has the invalid weight q={values['q'][:_MAX_SHOWN]}; use a number from 0 to 1.")
    return _Range(media.lower(), values.get("view"), quality)


def _parameter(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return name.strip().lower(), value.strip().strip('"')
