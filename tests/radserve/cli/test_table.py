import sys

import pytest

from radserve.cli.report import Outcome, Problem
from radserve.cli.table import Table
from radserve.cli.terminal import fraction
from radserve.schema.percentage import compared, percentage
from tests.radserve.cli.test_report import PROBLEM, predicted, segmented, write
from tests.radserve.scripted import SHA256, empty, prediction, segmentation


def use_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make standard output a terminal without colours."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")


def test_a_pipe_gets_tab_separated_lines_with_all_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes no terminal of a pipe
    table = Table()
    long = Problem(400, "Unreadable image", "It is bad. " * 30)
    write(table, Outcome("a\tb.png", predicted()), Outcome("c.png", long))
    write(table, Outcome("# d.png", predicted()))  # another page
    captured = capsys.readouterr()
    header, *lines = [line.split("\t") for line in captured.out.splitlines()]
    assert [dict(zip(header, line, strict=True))["File"] for line in lines] == [r"a\tb.png", "c.png", "# d.png"]
    assert dict(zip(header, lines[1], strict=True))["Problem"] == str(long)
    assert captured.err == f"chest 1.0.0, archive sha256 {SHA256}\n" * 2


def test_a_terminal_gets_a_table_with_its_notes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", "80")
    write(Table(), Outcome("a.png", predicted()), Outcome("b.png", Problem(400, "Unreadable", "It is bad. " * 9)))
    captured = capsys.readouterr()
    assert "\t" not in captured.out
    assert f"\nb.png: 400 Unreadable: {'It is bad. ' * 9}\n" in captured.out
    assert "\nchest 1.0.0, archive sha256" in captured.out
    assert captured.err == ""


def test_a_table_shows_label_percentage_and_model(capsys: pytest.CaptureFixture[str]) -> None:
    positive = predicted(label="pneumonia", probability=0.25, positive=True, threshold=0.2)
    write(Table(), Outcome("a.png", predicted()), Outcome("b.png", positive))
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if ".png" in line]
    assert lines == [
        ["a.png", "normal", "pneumonia", "25.0%", "no", "50.0%", "1.0.0"],
        ["b.png", "pneumonia", "pneumonia", "25.0%", "yes", "20.0%", "1.0.0"],
    ]


def test_an_uncertain_result_is_not_shown_as_its_label(capsys: pytest.CaptureFixture[str]) -> None:
    sets = {"status": "uncertain", "prediction_set": ["normal", "pneumonia"], "level": 0.9}
    write(Table(), Outcome("a.png", predicted(certainty=sets)))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if ".png" in line)
    output = "normal: pneumonia 25.0%, cut-off 50.0%"
    assert [cell for cell in line.split("\t") if cell] == ["a.png", "uncertain: no reliable label", output, "1.0.0"]


def test_what_second_passes_were_labelled_is_below_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    sets = {"status": "uncertain", "prediction_set": ["normal", "pneumonia"], "level": 0.9}
    seen = [predicted(certainty=sets | {"second_label": label}) for label in ("normal", "pneumonia")]
    write(Table(), *(Outcome("a.png", item) for item in seen))
    output = capsys.readouterr()
    verdicts = [line.split("\t")[1] for line in output.out.splitlines() if ".png" in line]
    assert verdicts == ["uncertain: no reliable label", "uncertain: contradicted by a brightened copy"]
    text = 'A brightened copy without its dark margins was labelled "pneumonia". (1 image)\n'
    assert text in output.err


def test_the_assumed_prevalence_is_below_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    write(Table(), Outcome("a.png", predicted(prevalence=0.1)))
    assert "The probabilities assume that 10.0% of the images are positive.\n" in capsys.readouterr().err


def test_a_table_names_the_archive(capsys: pytest.CaptureFixture[str]) -> None:
    write(Table(), Outcome("a.png", predicted()))
    assert f"chest 1.0.0, archive sha256 {SHA256}\n" in capsys.readouterr().err


def test_a_problem_is_distinct_from_a_result(capsys: pytest.CaptureFixture[str]) -> None:
    write(Table(), Outcome("a.png", PROBLEM))
    out = capsys.readouterr().out
    assert "no result" in out
    assert "400 Unreadable image: It is bad." in out
    assert "%" not in out
    assert "normal" not in out


def test_markup_and_control_characters_are_escaped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(Table(), Outcome("[red]a\x1b[31m\n\udcff.png", PROBLEM))
    out = capsys.readouterr().out
    assert r"[red]a\x1b[31m\n\udcff.png" in out
    assert "\x1b" not in out


def test_a_model_without_decision_has_no_threshold(capsys: pytest.CaptureFixture[str]) -> None:
    write(Table(), Outcome("a.png", predicted(positive=None, threshold=None)))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "a.png" in line)
    assert line.split() == ["a.png", "normal", "75.0%", "1.0.0"]


def test_a_table_has_pages() -> None:
    table = Table()
    full = [table.add(Outcome("a.png", PROBLEM)) for _ in range(1000)]
    assert full == [False] * 999 + [True]


def test_a_segmentation_row_has_area_and_box(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_terminal(monkeypatch)
    write(Table(), Outcome("a.png", segmented()), Outcome("b.png", segmented(empty(b"x"))))
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines() if ".png" in line] == [
        ["a.png", "tumour", "10.00%", "20.0", "5", "x", "4", "at", "3,", "2", "yes", "1.0.0"],
        ["b.png", "background", "0.00%", "0.0", "no", "1.0.0"],
    ]
    assert "Probability" not in out


def test_without_spacing_there_is_no_mm2_column(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_terminal(monkeypatch)
    document = segmentation(b"x", image=prediction(b"x")["image"], area={"pixels": 20, "fraction": 0.1})
    write(Table(), Outcome("a.png", segmented(document)))
    assert "mm²" not in capsys.readouterr().out


def test_a_warning_follows_the_label(capsys: pytest.CaptureFixture[str]) -> None:
    write(Table(), Outcome("a.png", predicted(warning="Untrained: it knows nothing.")))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "a.png" in line)
    assert line.split()[:6] == ["a.png", "normal", "Untrained:", "it", "knows", "nothing."]


@pytest.mark.parametrize(("area", "shown"), [(0.0, "0.00%"), (0.00001, "<0.01%"), (0.00012, "0.01%"), (1.0, "100.00%")])
def test_rounding_keeps_small_areas_visible(area: float, shown: str) -> None:
    assert fraction(area) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.9996, ">99.9%"), (1.0, ">99.9%"), (0.9994, "99.9%"), (0.5, "50.0%"), (0.0002, "<0.1%")],
)
def test_rounding_never_gives_0_or_100_percent(value: float, shown: str) -> None:
    assert percentage(value) == shown


@pytest.mark.parametrize(
    ("probability", "threshold", "shown"),
    [
        (0.4928, 0.4932, ("49.28%", "49.32%")),
        (0.014, 0.493, ("1.4%", "49.3%")),
        (0.5, 0.5, ("50.0%", "50.0%")),
        (0.0002, 0.0003, ("0.02%", "0.03%")),
    ],
)
def test_probability_and_cut_off_are_told_apart(probability: float, threshold: float, shown: tuple[str, str]) -> None:
    assert compared(probability, threshold) == shown


def test_what_was_not_checked_is_below_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = [Outcome(f"{names}.png", predicted(unchecked=names)) for names in (["age"], ["age", "view"], [])]
    write(Table(), *outcomes, Outcome("b.png", PROBLEM))
    assert "Not checked, with the number of images: age (2), view (1)\n" in capsys.readouterr().err
    write(Table(), Outcome("a.png", predicted()))
    assert "Not checked" not in capsys.readouterr().err


def test_an_unusual_or_repaired_image_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    domain = {"mode": "strict", "status": "unusual", "score": 1.2, "percentile": 98.4}
    write(Table(), Outcome("a.png", predicted(domain=domain)), Outcome("b.png", predicted(domain={"mode": "off"})))
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines() if ".png" in line]
    assert [line[1:3] for line in lines] == [
        ["no result: unusual image", "unusual (98.4%)"],
        ["normal", "not compared"],
    ]
    assert [line[5:7] for line in lines] == [["normal: pneumonia 25.0%, cut-off 50.0%", ""], ["", "pneumonia 25.0%"]]
    normal = domain | {"status": "normal", "percentile": 50}
    write(Table(), Outcome("c.png", predicted("invert", domain=normal)))
    out = capsys.readouterr().out
    assert ["c.png", "normal", "invert"] in [line.split()[:3] for line in out.splitlines()]
