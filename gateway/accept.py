"""Reads the header Accept (RFC 9110, section 12.5.1) for representations that the gateway itself makes."""

import re
from typing import Final, NamedTuple

_WEIGHT: Final = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


class MediaRange(NamedTuple):
    """A media range; names are in lower case, values without quotes."""

    media_type: str
    parameters: dict[str, str]

    @property
    def weight(self) -> float:
        """Value of `q`, 1 without it; 0 if it is invalid, which the model server rejects."""
        value = self.parameters.get("q", "1")
        return float(value) if _WEIGHT.fullmatch(value) else 0.0


def preferred(accept: str) -> MediaRange:
    """Return the first of the media ranges with the largest weight; an empty one if the header has no range."""
    ranges = [_range(item) for item in accept.split(",") if item.strip()]
    best = max(ranges, key=lambda item: item.weight, default=None)  # the first of several
    return best if best is not None and best.weight > 0 else MediaRange("", {})


def _range(text: str) -> MediaRange:
    media_type, *parameters = text.split(";")
    pairs = [item.partition("=") for item in parameters]
    return MediaRange(
        media_type.strip().lower(), {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
    )
