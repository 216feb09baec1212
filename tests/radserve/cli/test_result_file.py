"""`radserve predict --out`: formats, continuing, limits."""

import csv
import json
import sys
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from radserve.cli.report import Outcome, Problem
from radserve.cli.result_file import open_file
from tests import command_line
from tests.radserve.cli.test_report import PROBLEM, predicted, segmented
from tests.radserve.scripted import Reply, Request, Scripted, answer, document

SUFFIXES = ("csv", "jsonl", "parquet")
TIMEOUT = Problem(None, "Timeout", "It took, too\r\nlong.")
ODD = "=a\udcff,\n.png"


@pytest.fixture(params=SUFFIXES)
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"results.{request.param}"


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    for name in ("1", "2", "3", "4"):
        (folder / f"{name}.png").write_bytes(b"bad" if name == "2" else name.encode())
    return folder


def rows(out: Path) -> list[dict[str, Any]]:
    """Return name, status and label of each row of a file."""
    if out.suffix == ".jsonl":
        documents = [json.loads(line) for line in out.read_text().splitlines()]
        return [
            {"file": item["file"], "status": item.get("problem", {}).get("status", 200), "label": item.get("label")}
            for item in documents
        ]
    if out.suffix == ".csv":
        with out.open(newline="") as file:
            return [
                {"file": row["file"], "status": int(row["status"] or 0) or None, "label": row["label"] or None}
                for row in csv.DictReader(file)
            ]
    import pandas as pd

    table = pd.read_parquet(out)[["file", "status", "label"]].astype(object)
    found: list[dict[str, Any]] = table.where(table.notna(), None).to_dict("records")
    return found


def predict(odd: Scripted, *arguments: object, name: str = "chest") -> CompletedProcess[str]:
    return command_line.run("predict", name, *arguments, "--url", odd.url)


def names(out: Path) -> list[str]:
    return [Path(row["file"]).stem for row in rows(out)]


def test_every_image_has_a_row(odd: Scripted, films: Path, out: Path) -> None:
    done = predict(odd, films, "--out", out)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "3 images analysed, 1 failed.\n")
    assert [(row["status"], row["label"]) for row in rows(out)] == [
        (200, "normal"),
        (400, None),
        (200, "normal"),
        (200, "normal"),
    ]


def test_a_call_continues_where_the_last_one_stopped(odd: Scripted, films: Path, out: Path) -> None:
    assert predict(odd, films, "--out", out, "--limit", 2).returncode == 1
    assert len(odd.requests) == 2
    done = predict(odd, films, "--out", out, "--resume")
    assert (done.returncode, done.stderr) == (0, "2 images analysed, 0 failed. 2 were in " + f"{out} already.\n")
    assert names(out) == ["1", "2", "3", "4"]
    assert len(odd.requests) == 4
    assert predict(odd, films, "--out", out, "--resume").returncode == 0
    assert len(odd.requests) == 4


def test_images_after_a_failure_of_the_server_are_sent_again(odd: Scripted, films: Path, out: Path) -> None:
    def script(request: Request) -> Reply:
        return document({}, 500) if request.body in (b"1", b"3") else answer(request)

    odd.script = script
    predict(odd, films, "--out", out)
    odd.script = answer
    done = predict(odd, films, "--out", out, "--resume")
    assert done.returncode == 0, done.stderr
    assert sorted(names(out)) == ["1", "2", "3", "4"]
    assert {row["status"] for row in rows(out)} == {200, 400}


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_line_that_was_cut_off_is_repeated(odd: Scripted, films: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"results.{suffix}"
    predict(odd, films, "--out", out)
    whole = out.read_bytes()
    out.write_bytes(whole[:-20])
    assert predict(odd, films, "--out", out, "--resume").returncode == 0
    assert out.read_bytes() == whole


def test_an_existing_file_is_replaced_only_with_force(odd: Scripted, films: Path, out: Path) -> None:
    out.write_bytes(b"mine")
    done = predict(odd, films, "--out", out)
    assert (done.returncode, out.read_bytes()) == (2, b"mine")
    assert "exists; add --resume to continue it, or --force to replace it" in done.stderr
    assert not odd.requests
    predict(odd, films, "--out", out, "--force")
    assert names(out) == ["1", "2", "3", "4"]


def test_a_file_of_another_kind_or_model_is_not_continued(odd: Scripted, films: Path, out: Path) -> None:
    predict(odd, films / "1.png", "--out", out)
    before = out.read_bytes()
    done = predict(odd, films, "--out", out, "--resume", name="other")
    assert (done.returncode, "has results of chest 1.0.0; choose another file for other" in done.stderr) == (2, True)
    done = predict(odd, films, "--out", out, "--resume", "--version", "2.0.0")
    assert done.returncode == 2
    assert out.read_bytes() == before
    out.write_bytes(b'mine\r\n"x"\r\n')
    done = predict(odd, films, "--out", out, "--resume")
    assert (done.returncode, "has no results that can be read" in done.stderr) == (2, True)
    assert out.read_bytes() == b'mine\r\n"x"\r\n'


@pytest.mark.parametrize("arguments", [["--out", "a.xlsx"], ["--out", "a.csv", "--json"], ["--resume"]])
def test_invalid_options_exit_with_2(odd: Scripted, films: Path, arguments: list[str]) -> None:
    done = predict(odd, films, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert not odd.requests


def test_a_folder_that_does_not_exist_is_named(odd: Scripted, films: Path, tmp_path: Path) -> None:
    done = predict(odd, films, "--out", tmp_path / "missing" / "a.csv")
    assert (done.returncode, "cannot be written (No such file or directory)" in done.stderr) == (2, True)


def test_names_and_reasons_with_odd_characters_are_recognised(out: Path) -> None:
    report = open_file(out, "chest", None, resume=False, force=False)
    for outcome in (Outcome(ODD, predicted()), Outcome("a.png", PROBLEM), Outcome("b.png", TIMEOUT)):
        report.add(outcome)
    report.flush()
    resumed = open_file(out, "chest", None, resume=True, force=False)
    assert [resumed.has(name) for name in (ODD, "a.png", "b.png", "c.png")] == [True, True, False, False]
    resumed.add(Outcome("b.png", predicted()))
    resumed.flush()
    assert [row["status"] for row in rows(out)] == [200, 400, 200]


def test_the_types_of_parquet_are_those_of_the_columns(tmp_path: Path) -> None:
    import pandas as pd

    report = open_file(tmp_path / "a.parquet", "chest", None, resume=False, force=False)
    report.add(Outcome("a.png", predicted()))
    report.flush()
    table = pd.read_parquet(tmp_path / "a.parquet")
    assert table["positive"].tolist() == [False]
    assert (table["probability"].dtype, table["area_pixels"].dtype) == ("Float64", "Int64")


def test_parquet_without_pyarrow_says_what_to_install(
    odd: Scripted, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = predict(odd, films, "--out", tmp_path / "a.parquet")
    assert (done.returncode, "pip install 'radserve[analysis]'" in done.stderr) == (2, True)
    assert not odd.requests


def test_a_segmentation_is_kept_too(out: Path) -> None:
    report = open_file(out, "glioma", None, resume=False, force=False)
    report.add(Outcome("a.png", segmented()))
    report.flush()
    assert open_file(out, "glioma", "1.0.0", resume=True, force=False).has("a.png")
