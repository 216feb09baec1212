"""CSV table of results."""

import csv
import io
import re
from typing import Any

import pytest

from gateway.history import csv_table
from tests.gateway.history.results import result


def table(*results: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_table.header() + csv_table.lines(results), newline="")))


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"domain": "unlike"}, "unlike"),
        ({"domain": "unusual", "certainty": "certain"}, "unusual"),
        ({"domain": "unlike", "certainty": "uncertain"}, "unlike"),
        ({"domain": "normal", "certainty": "uncertain"}, "uncertain"),
    ],
)
def test_doubtful_and_uncertain_results_state_no_finding(changes: dict[str, Any], status: str) -> None:
    (row,) = table(result(label="pneumonia", probability=0.9, positive=True, **changes))
    assert (row["status"], row["label"], row["probability"], row["positive"]) == (status, "", "", "")
    assert "pneumonia" not in row.values()
    assert row["domain"] == changes["domain"]


@pytest.mark.parametrize("changes", [{}, {"domain": "normal", "certainty": "certain"}, {"domain": "off"}])
def test_other_results_state_their_finding(changes: dict[str, Any]) -> None:
    (row,) = table(result(label="pneumonia", probability=0.9, positive=True, **changes))
    assert (row["status"], row["label"], row["probability"], row["positive"]) == (
        "reported",
        "pneumonia",
        "0.9",
        "true",
    )


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "\n", "\r"])
@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@x", "\t=1", " =1", "＝1", "＋1", "－1", "＠x"])  # noqa: RUF001 - spreadsheets read full-width forms as operators
@pytest.mark.parametrize("before", ["", "film"])
def test_csv_has_no_formula_whatever_separates_its_cells(separator: str, formula: str, before: str) -> None:
    text = f"{before}{separator}{formula}"
    line = csv_table.lines([result(filename=text)])
    for delimiter in (",", ";", "\t", "|"):
        for cell in re.split(rf"[{delimiter}\r\n]", line):  # as a program splits that heeds no quotes
            assert not cell.strip(' "').startswith(tuple("=+-@＝＋－＠")), (line, delimiter)  # noqa: RUF001
