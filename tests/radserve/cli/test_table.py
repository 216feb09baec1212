from __future__ import annotations

import pytest

from radserve.cli.report import Outcome
from radserve.cli.table import Table, fraction, share
from tests.radserve.cli.test_report import PROBLEM, predicted, segmented, write
from tests.radserve.scripted import SHA256, empty, prediction, segmentation


def test_a_table_shows_label_percentage_and_model(capsys: pytest.CaptureFixture[str]) -> None:
    positive = predicted(label="pneumonia", probability=0.25, positive=True, threshold=0.2)
    write(Table(), Outcome("a.png", predicted()), Outcome("b.png", positive))
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if ".png" in line]
    assert lines == [
        ["a.png", "normal", "75.0%", "no", "50.0%", "1.0.0"],
        ["b.png", "pneumonia", "25.0%", "yes", "20.0%", "1.0.0"],
    ]


def test_a_table_names_the_archive_that_answered(capsys: pytest.CaptureFixture[str]) -> None:
    write(Table(), Outcome("a.png", predicted()))
    assert f"chest 1.0.0, archive sha256 {SHA256}\n" in capsys.readouterr().out


def test_in_a_table_a_refusal_does_not_look_like_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    write(Table(), Outcome("a.png", PROBLEM))
    out = capsys.readouterr().out
    assert "NO ANSWER" in out
    assert "400 Unreadable image: It is bad." in out
    assert "%" not in out
    assert "normal" not in out


def test_a_table_shows_names_as_they_are_and_lets_no_control_character_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(Table(), Outcome("[red]a\x1b[31m\n\udcff.png", PROBLEM))
    out = capsys.readouterr().out
    assert r"[red]a\x1b[31m\n\udcff.png" in out
    assert "\x1b" not in out


def test_a_model_that_looks_for_no_finding_gets_no_threshold(capsys: pytest.CaptureFixture[str]) -> None:
    write(Table(), Outcome("a.png", predicted(positive=None, threshold=None)))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "a.png" in line)
    assert line.split() == ["a.png", "normal", "75.0%", "1.0.0"]


def test_a_table_is_written_in_pages() -> None:
    table = Table()
    full = [table.add(Outcome("a.png", PROBLEM)) for _ in range(1000)]
    assert full == [False] * 999 + [True]


def test_a_table_of_masks_shows_how_much_and_where(capsys: pytest.CaptureFixture[str]) -> None:
    write(Table(), Outcome("a.png", segmented()), Outcome("b.png", segmented(empty(b"x"))))
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines() if ".png" in line] == [
        ["a.png", "tumour", "10.00%", "20.0", "5", "x", "4", "at", "3,", "2", "yes", "1.0.0"],
        ["b.png", "background", "0.00%", "0.0", "no", "1.0.0"],
    ]
    assert "Probability" not in out


def test_where_the_spacing_is_not_known_no_area_in_mm_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    document = segmentation(b"x", image=prediction(b"x")["image"], area={"pixels": 20, "fraction": 0.1})
    write(Table(), Outcome("a.png", segmented(document)))
    assert "mm²" not in capsys.readouterr().out


def test_a_warning_stands_beside_the_label(capsys: pytest.CaptureFixture[str]) -> None:
    write(Table(), Outcome("a.png", predicted(warning="Untrained: it knows nothing.")))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "a.png" in line)
    assert line.split()[:6] == ["a.png", "normal", "Untrained:", "it", "knows", "nothing."]


@pytest.mark.parametrize(("area", "shown"), [(0.0, "0.00%"), (0.00001, "<0.01%"), (0.00012, "0.01%"), (1.0, "100.00%")])
def test_rounding_never_makes_a_small_finding_none(area: float, shown: str) -> None:
    assert fraction(area) == shown


@pytest.mark.parametrize(
    ("probability", "shown"),
    [(0.9996, ">99.9%"), (1.0, ">99.9%"), (0.9994, "99.9%"), (0.5, "50.0%"), (0.0002, "<0.1%")],
)
def test_rounding_never_shows_certainty(probability: float, shown: str) -> None:
    assert share(probability) == shown
