"""Text with places for values: `${UPPER_CASE}`, and nothing else, so that other languages keep their dollars."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from radserve.errors import ServeError

_PLACE: Final = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")
_UNSAFE: Final = re.compile(r"[\"'\\$\x00-\x1f\x7f]")
"""Characters by which a value could end the word that it stands in, or mean something else there."""


def render(text: str, values: Mapping[str, str | int | Path], source: str) -> str:
    """Put values into their places.

    Raises
    ------
    ServeError
        If a place has no value, or a value holds characters that would change the meaning of what is around it.
    """

    def put(match: re.Match[str]) -> str:
        name = match[1]
        if name not in values:
            raise ServeError(f"{source}: ${{{name}}} is not known; there are {', '.join(sorted(values))}.")
        value = str(values[name])
        if _UNSAFE.search(value):
            raise ServeError(
                f"{source}: ${{{name}}} has value {value!r}; quotes, backslashes and $ cannot stand there."
            )
        return value

    return _PLACE.sub(put, text)


def when(condition: bool) -> str:  # noqa: FBT001 - the condition is all there is
    """Return what, at the beginning of a line, keeps it or makes a comment of it."""
    return "" if condition else "# "
