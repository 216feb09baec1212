"""CSV table of results, as `GET /api/results.csv` sends it. Doubtful and uncertain results state no finding."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

from gateway.history import Result
from radserve import spreadsheet

Status = Literal["reported", "uncertain", "unusual", "unlike"]

_CLAIMS: Final = ("label", "probability", "positive")
"""Columns that are empty unless the status is `reported`: the page shows none of them then, either."""
_DOUBTFUL: Final[dict[str | None, Status]] = {"unusual": "unusual", "unlike": "unlike"}
_FIELDS: Final = tuple(Result.model_fields)
COLUMNS: Final = (*_FIELDS[: _FIELDS.index("label")], "status", *_FIELDS[_FIELDS.index("label") :])


def header() -> str:
    """Return the first line."""
    return _line([COLUMNS])


def lines(results: Iterable[Result]) -> str:
    """Return a line for each result."""
    return _line([[_cell(value) for value in _row(result)] for result in results])


def status(result: Result) -> Status:
    """Return `reported` for a finding, or why the result is not one: its image, or an uncertain decision."""
    if result.domain in _DOUBTFUL:
        return _DOUBTFUL[result.domain]
    return "uncertain" if result.certainty == "uncertain" else "reported"


def _row(result: Result) -> list[Any]:
    values = result.model_dump(mode="json") | {"status": status(result)}
    if values["status"] != "reported":
        values |= dict.fromkeys(_CLAIMS)
    return [values[name] for name in COLUMNS]


def _line(rows: Iterable[Sequence[object]]) -> str:
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    return stream.getvalue()


def _cell(value: object) -> object:
    """Return a cell: booleans as in JSON, and a quote before text that a spreadsheet would run as a formula."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return spreadsheet.cell(value) if isinstance(value, str) else value
