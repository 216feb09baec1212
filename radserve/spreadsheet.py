"""Text for CSV files that spreadsheets open."""

import re
from typing import Final

_FORMULA: Final = re.compile(r"^(?=[\s]*[=+\-@＝＋－＠]|[\t\r\n])|(?<=[,;|\t\r\n])(?=\s*[=+\-@＝＋－＠])")  # noqa: RUF001
"""Positions before a formula, also where a program that ignores quotes or expects another separator begins a cell."""


def cell(text: str) -> str:
    """Return text with a quote before each part that a spreadsheet would run as a formula."""
    return _FORMULA.sub("'", text)
