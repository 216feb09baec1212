"""Text templates with placeholders `${UPPER_CASE}`; every other dollar sign is left to the target language."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from radserve.errors import ServeError

_PLACEHOLDER: Final = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")
_UNSAFE: Final = re.compile(r"[\"'\\$\x00-\x1f\x7f]")
"""Characters that could end the token around a value or change its meaning."""


def render(text: str, values: Mapping[str, str | int | Path], source: str) -> str:
    """Replace the placeholders by their values.

    Raises
    ------
    ServeError
        If a placeholder is unknown or its value contains unsafe characters.
    """

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        if name not in values:
            raise ServeError(f"{source}: unknown placeholder ${{{name}}}. Available: {', '.join(sorted(values))}.")
        value = str(values[name])
        if _UNSAFE.search(value):
            raise ServeError(
                f"{source}: ${{{name}}} has value {value!r}; quotes, backslashes and $ are not allowed in it."
            )
        return value

    return _PLACEHOLDER.sub(replace, text)


def when(condition: bool) -> str:  # noqa: FBT001 - the condition is all there is
    """Return a line prefix: empty to keep the line, `# ` to comment it out."""
    return "" if condition else "# "
