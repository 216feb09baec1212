"""Which form of an answer a client takes: content negotiation (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from handlers.errors import BadRequestError, NotAcceptableError

JSON: Final = "application/json"
PNG: Final = "image/png"
IMAGE: Final = "image"
"""View of the image as it was decoded. It answers nothing, so only a client that names it gets it."""
_SHOWN: Final = 200
"""Most characters of a header that an error repeats."""


@dataclass(frozen=True)
class _Range:
    """One media range of an Accept header; of its parameters only `view` and `q` mean anything here."""

    media: str
    view: str | None
    quality: float

    def fits(self, media: str, view: str) -> bool:
        kind = media.partition("/")[0]
        named = self.view == view or (self.view is None and view != IMAGE)
        return named and self.media in ("*/*", f"{kind}/*", media)

    @property
    def specificity(self) -> tuple[int, bool]:
        """Of the ranges that fit, the most specific one counts."""
        return 2 - self.media.count("*"), self.view is not None


def negotiate(accept: str, views: Collection[str]) -> str | None:
    """Choose the form of an answer.

    Parameters
    ----------
    accept
        The Accept header; an empty one takes everything.
    views
        Names of the pictures that there are; `""` is the one that `image/png` alone asks for, and `IMAGE` is
        chosen where its name is asked for only.

    Returns
    -------
    None for JSON, else the name of the picture. Of forms that the client likes equally, JSON wins, then
    the order of `views`.

    Raises
    ------
    BadRequest
        If a weight of the header is no number in [0, 1].
    NotAcceptable
        If the client takes none of the forms; the message names them.
    """
    ranges = [_range(item) for item in accept.split(",") if item.strip()]
    if not ranges:
        return None
    forms: list[str | None] = [None, *views]
    qualities = [_quality(ranges, form) for form in forms]
    best = max(qualities)
    if best == 0:
        offered = ", ".join(JSON if form is None else f"{PNG};view={form}" if form else PNG for form in forms)
        raise NotAcceptableError(f"Accept: {accept[:_SHOWN]} takes no form of this answer; it is offered as {offered}.")
    return forms[qualities.index(best)]


def _quality(ranges: list[_Range], form: str | None) -> float:
    media, view = (JSON, "") if form is None else (PNG, form)
    # A view says nothing of JSON, so a range that names one is as good as without it.
    fitting = [item for item in ranges if item.fits(media, item.view or "" if form is None else view)]
    return max(fitting, key=lambda item: (item.specificity, item.quality)).quality if fitting else 0


def _range(text: str) -> _Range:
    media, *parameters = (part.strip() for part in text.split(";"))
    named = dict(_parameter(part) for part in parameters)
    try:
        quality = float(named.get("q", "1"))
    except ValueError:
        quality = -1
    if not 0 <= quality <= 1:
        raise BadRequestError(f"Accept has the weight q={named['q'][:_SHOWN]}; a weight is a number from 0 to 1.")
    return _Range(media.lower(), named.get("view"), quality)


def _parameter(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return name.strip().lower(), value.strip().strip('"')
