"""`radserve predict --out`: formats, continuing, limits."""

import csv
import errno
import hashlib
import json
import shutil
import sys
import time
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from radserve.cli import result_row
from radserve.cli.inputs import Source
from radserve.cli.report import Outcome, Problem
from radserve.cli.result_file import locked, open_file
from radserve.errors import InvalidCallError
from tests import command_line
from tests.radserve.cli.test_report import PROBLEM, predicted, segmented
from tests.radserve.dicom.test_frames import enhanced
from tests.radserve.scripted import SHA256, Reply, Request, Scripted, answer, document, prediction, problem
from tests.server import free_ports

SUFFIXES = ("csv", "jsonl", "parquet")
TIMEOUT = Problem(None, "Timeout", "It took, too\r\nlong.")
MODEL = f"chest 1.0.0, archive sha256 {SHA256}"
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
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        MODEL,
        f"Failed: {films / '2.png'}: 400 Unreadable image: It is bad.",
        f"3 images analysed, 1 failed. Results: {out}",
    ]
    assert [(row["status"], row["label"]) for row in rows(out)] == [
        (200, "normal"),
        (400, None),
        (200, "normal"),
        (200, "normal"),
    ]


def test_the_summary_names_five_failed_images(odd: Scripted, tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"{number}\n.png").write_bytes(b"bad")
    out = tmp_path / "results.csv"
    *failed, rest, last = predict(odd, tmp_path, "--out", out).stderr.splitlines()
    assert last == f"0 images analysed, 7 failed. Results: {out}"
    reason = "400 Unreadable image: It is bad."
    assert failed == [f"Failed: {tmp_path}/{number}\\n.png: {reason}" for number in range(5)]
    assert rest == f"and 2 more: see `problem` in {out}"


def test_a_call_continues_where_the_last_one_stopped(odd: Scripted, films: Path, out: Path) -> None:
    assert predict(odd, films, "--out", out, "--limit", 2).returncode == 1
    assert len(odd.requests) == 2
    done = predict(odd, films, "--out", out, "--resume")
    had = f"2 images were in {out} already, 1 of them without a result."
    assert done.returncode == 1
    assert done.stderr == f"{MODEL}\n2 images analysed, 0 failed. {had} Results: {out}\n"
    assert names(out) == ["1", "2", "3", "4"]
    assert len(odd.requests) == 4
    assert predict(odd, films, "--out", out, "--resume").returncode == 1
    assert len(odd.requests) == 4


def test_a_call_says_that_it_writes_no_pictures_of_earlier_images(odd: Scripted, films: Path, tmp_path: Path) -> None:
    out, film = tmp_path / "a.csv", films / "1.png"
    predict(odd, film, "--out", out)
    done = predict(odd, film, "--out", out, "--resume", "--explain", tmp_path / "heat")
    assert done.returncode == 0
    had = f"1 image was in {out} already, and this call wrote no pictures of them."
    assert done.stderr == f"0 images analysed, 0 failed. {had} Results: {out}\n"


def test_results_of_another_model_file_of_the_version_are_not_added(odd: Scripted, films: Path, out: Path) -> None:
    predict(odd, films / "1.png", "--out", out)
    before = out.read_bytes()
    other = {"name": "chest", "version": "1.0.0", "sha256": "b" * 64}
    odd.script = lambda request: document(prediction(request.body, model=other))
    done = predict(odd, films / "1.png", films / "3.png", "--out", out, "--resume")
    assert (done.returncode, out.read_bytes()) == (2, before)
    assert "the server now sends results of version 1.0.0 (SHA-256 bbbbbbbbbbbb)" in done.stderr


def test_images_after_a_failure_of_the_server_are_sent_again(odd: Scripted, films: Path, out: Path) -> None:
    def script(request: Request) -> Reply:
        return document({}, 500) if request.body in (b"1", b"3") else answer(request)

    odd.script = script
    predict(odd, films, "--out", out)
    odd.script = answer
    done = predict(odd, films, "--out", out, "--resume")
    assert done.returncode == 1, done.stderr
    assert sorted(names(out)) == ["1", "2", "3", "4"]
    assert {row["status"] for row in rows(out)} == {200, 400}


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_line_that_was_cut_off_is_repeated(odd: Scripted, films: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"results.{suffix}"
    predict(odd, films, "--out", out)
    whole = out.read_bytes()
    out.write_bytes(whole[:-20])
    assert predict(odd, films, "--out", out, "--resume").returncode == 1
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
    assert done.returncode == 2
    assert f"the folder {tmp_path / 'missing'} does not exist; create it" in done.stderr
    done = predict(odd, films, "--out", films / "1.png" / "a.csv")
    assert (done.returncode, f"{films / '1.png'} is a file, not a folder" in done.stderr) == (2, True)
    done = predict(odd, films, "--out", tmp_path / ("a" * 300) / "a.csv")
    assert (done.returncode, "cannot be written (File name too long)" in done.stderr) == (2, True)


def test_standard_input_is_never_skipped(odd: Scripted, out: Path) -> None:
    for content in (b"one", b"two"):
        done = command_line.run("predict", "chest", "-", "--out", out, "--resume", "--url", odd.url, stdin=content)
        assert (done.returncode, done.stderr) == (0, f"{MODEL}\n1 image analysed, 0 failed. Results: {out}\n")
    assert [request.body for request in odd.requests] == [b"one", b"two"]
    assert names(out) == ["-", "-"]


def test_a_result_of_another_image_with_the_same_name_is_an_error(odd: Scripted, films: Path, out: Path) -> None:
    predict(odd, films, "--out", out)
    before = out.read_bytes()
    (films / "1.png").write_bytes(b"other")
    done = predict(odd, films, "--out", out, "--resume")
    assert done.returncode == 2
    assert f"{films / '1.png'} has changed since its result in {out}. Choose another --out" in done.stderr
    assert (len(odd.requests), out.read_bytes()) == (4, before)


def test_a_rejected_image_that_has_changed_is_sent_again(odd: Scripted, films: Path, out: Path) -> None:
    predict(odd, films, "--out", out)
    (films / "2.png").write_bytes(b"2")
    assert predict(odd, films, "--out", out, "--resume").returncode == 0
    assert names(out) == ["1", "3", "4", "2"]
    assert {row["status"] for row in rows(out)} == {200}


def test_a_rejection_that_depends_on_the_options_is_repeated(odd: Scripted, films: Path, out: Path) -> None:
    missing = problem(422, "Missing attribute", "The age is missing.")
    odd.script = lambda request: answer(request) if "X-Assurances" in request.headers else missing
    film = films / "1.png"
    assert predict(odd, film, "--out", out).returncode == 1
    assert predict(odd, film, "--out", out, "--resume").returncode == 1
    done = predict(odd, film, "--out", out, "--resume", "--assure", "age=5")
    assert (done.returncode, done.stderr) == (0, f"{MODEL}\n1 image analysed, 0 failed. Results: {out}\n")
    assert [row["status"] for row in rows(out)] == [200]
    done = predict(odd, film, "--out", out, "--resume")
    assert (done.returncode, done.stderr) == (
        0,
        f"0 images analysed, 0 failed. 1 image was in {out} already. Results: {out}\n",
    )


def test_two_spellings_of_a_name_are_one_image(odd: Scripted, films: Path, out: Path) -> None:
    predict(odd, films, "--out", out)
    assert predict(odd, f"{films.parent}/./films", films / ".." / "films", "--out", out, "--resume").returncode == 1
    assert len(odd.requests) == 4


@pytest.mark.parametrize("changed", [["--repair", "invert"], ["--prevalence", "0.2"]])
def test_results_under_other_conditions_are_not_continued(
    odd: Scripted, films: Path, out: Path, changed: list[str]
) -> None:
    odd.script = lambda request: document(prediction(request.body, prevalence=0.1))
    assert predict(odd, films / "1.png", "--out", out, "--prevalence", "0.1").returncode == 0
    done = predict(odd, films, "--out", out, "--resume", *changed)
    assert (done.returncode, f"has results without {' '.join(changed)}" in done.stderr) == (2, True), done.stderr
    assert len(odd.requests) == 1


def test_results_for_another_prevalence_than_before_are_not_added(odd: Scripted, films: Path, out: Path) -> None:
    def script(request: Request) -> Reply:
        stated = request.headers.get("X-Assurances", "prevalence=0.5").partition("=")[2]
        return document(prediction(request.body, prevalence=float(stated)))

    odd.script = script
    assert predict(odd, films / "1.png", "--out", out, "--prevalence", "0.1").returncode == 0
    before = out.read_bytes()
    done = predict(odd, films, "--out", out, "--resume")
    assert (done.returncode, out.read_bytes()) == (2, before)
    assert " for prevalence 0.1, and the server now sends results of" in done.stderr
    assert predict(odd, films, "--out", out, "--resume", "--prevalence", "0.1").returncode == 0
    assert names(out) == ["1", "2", "3", "4"]


def test_results_with_another_site_profile_are_not_added(odd: Scripted, films: Path, out: Path) -> None:
    odd.script = lambda request: document(prediction(request.body, profile={"name": "east", "sha256": "e" * 64}))
    assert predict(odd, films / "1.png", "--out", out).returncode == 0
    before = out.read_bytes()
    for profile, text in (({"name": "east", "sha256": "f" * 64}, f" SHA-256 {'f' * 12}"), (None, ")")):
        odd.script = lambda request, profile=profile: document(prediction(request.body, profile=profile))  # type: ignore[misc]
        done = predict(odd, films / "3.png", "--out", out, "--resume")
        assert (done.returncode, out.read_bytes()) == (2, before)
        assert f"of SHA-256 {'e' * 12}, and the server now sends results of" in done.stderr
        assert f"{text}. Give the options" in done.stderr


def test_results_without_a_prevalence_match_any(odd: Scripted, films: Path, out: Path) -> None:
    odd.script = lambda request: document(prediction(request.body))
    assert predict(odd, films / "1.png", "--out", out).returncode == 0
    odd.script = lambda request: document(prediction(request.body, prevalence=0.5))
    done = predict(odd, films, "--out", out, "--resume")
    assert (done.returncode, names(out)) == (0, ["1", "2", "3", "4"]), done.stderr


def test_results_of_another_release_are_not_continued(out: Path) -> None:
    import pandas as pd

    table = pd.DataFrame({"file": ["1.png"], "status": [200], "label": ["normal"]})
    if out.suffix == ".jsonl":
        table.to_json(out, orient="records", lines=True)
    elif out.suffix == ".csv":
        table.to_csv(out, index=False, lineterminator="\r\n")
    else:
        table.to_parquet(out)
    with pytest.raises(InvalidCallError, match="another release"):
        open_file(out, "chest", None, resume=True, force=False)


def test_a_continued_file_keeps_its_version(odd: Scripted, films: Path, out: Path) -> None:
    assert predict(odd, films / "1.png", "--out", out).returncode == 0
    assert predict(odd, films, "--out", out, "--resume").returncode == 1
    assert [request.path for request in odd.requests[:2]] == ["/predictions/chest", "/predictions/chest/1.0.0"]


def test_a_file_that_can_no_longer_be_written_loses_no_result(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    out = tmp_path / "folder" / out.name
    out.parent.mkdir()
    report = open_file(out, "chest", None, resume=False, force=False)
    report.add(Outcome("a.png", predicted()))
    report.flush()
    shutil.rmtree(out.parent)  # as a lost network drive

    def lose() -> None:
        report.add(Outcome("b.png", predicted()))
        report.flush()

    with pytest.raises(InvalidCallError, match=r"cannot be written \(No such file or directory\)") as raised:
        lose()
    if out.suffix == ".parquet":
        (rescued,) = tmp_path.glob("results-*.parquet")
        assert f"All results are in {rescued}; move it to {out}" in str(raised.value)
        assert [row["file"] for row in rows(rescued)] == ["a.png", "b.png"]


def test_standard_input_that_is_too_large_has_no_checksum(odd: Scripted, tmp_path: Path) -> None:
    out, content = tmp_path / "a.csv", bytes(64 * 1024 * 1024 + 2)
    done = command_line.run("predict", "chest", "-", "--out", out, "--url", odd.url, stdin=content)
    assert done.returncode == 1, done.stderr
    (row,) = result_row.read(out)
    assert (row.status, row.sha256) == (413, "")


@pytest.mark.parametrize("problem", ["no folder", "full disk"])
def test_results_that_cannot_be_copied_either_are_lost_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "folder" / "results.parquet"
    out.parent.mkdir()
    report = open_file(out, "chest", None, resume=False, force=False)
    report.add(Outcome("a.png", predicted()))
    if problem == "full disk":
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        monkeypatch.setattr("os.fsync", fail)
    else:
        shutil.rmtree(out.parent)
        monkeypatch.setattr("tempfile.tempdir", None)
        monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: [str(tmp_path / "missing")])
    reason = "No space left on device" if problem == "full disk" else "No usable temporary directory found"
    with pytest.raises(InvalidCallError, match=f"are lost, because a copy cannot be written either .{reason}"):
        report.flush()
    assert [*tmp_path.rglob("*.*")] == []


@pytest.mark.parametrize("content", [b"bad", b"slow", b"invalid"])
def test_the_row_of_an_image_without_a_result_has_its_checksum(
    odd: Scripted, tmp_path: Path, out: Path, content: bytes
) -> None:
    def script(request: Request) -> Reply:
        if request.body == b"slow":
            time.sleep(0.4)
        return document({}) if request.body == b"invalid" else answer(request)

    odd.script = script
    (tmp_path / "film.png").write_bytes(content)
    assert predict(odd, tmp_path / "film.png", "--out", out, "--timeout", "0.2").returncode == 1
    (row,) = result_row.read(out)
    assert row.sha256 == hashlib.sha256(content).hexdigest()


def test_a_call_that_gets_no_response_leaves_the_old_results(odd: Scripted, films: Path, out: Path) -> None:
    predict(odd, films, "--out", out)
    before = out.read_bytes()
    unreachable = f"http://127.0.0.1:{free_ports(1)[0]}"
    done = command_line.run("predict", "chest", films, "--out", out, "--force", "--url", unreachable)
    assert (done.returncode, out.read_bytes()) == (3, before)
    done = predict(odd, films, "--out", out, "--force", "--explain", films / "heat")
    assert (done.returncode, out.read_bytes()) == (2, before)
    new = out.with_stem("new")
    command_line.run("predict", "chest", films, "--out", new, "--url", unreachable)
    assert not new.exists()


def test_a_new_file_does_not_replace_pictures(odd: Scripted, films: Path, out: Path, tmp_path: Path) -> None:
    (heat := tmp_path / "heat").mkdir()
    (heat / "1.heat.png").write_bytes(b"mine")
    done = predict(odd, films / "1.png", "--out", out, "--resume", "--explain", heat)
    assert (done.returncode, (heat / "1.heat.png").read_bytes()) == (2, b"mine")


def test_two_calls_cannot_write_one_file(odd: Scripted, films: Path, out: Path) -> None:
    with locked(out):
        done = predict(odd, films, "--out", out, "--resume")
    assert (done.returncode, "another call is writing to it" in done.stderr) == (2, True)
    assert not odd.requests
    assert predict(odd, films, "--out", out).returncode == 1


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


@pytest.mark.parametrize("complete", [False, True])
def test_the_rows_of_a_file_with_several_frames_are_complete_or_sent_again(out: Path, complete: bool) -> None:
    source = Source(str(out.with_name("enhanced.dcm")))
    Path(source.name).write_bytes(enhanced(3))
    sha256 = source.sha256()
    report = open_file(out, "chest", None, resume=False, force=False)
    for frame in (1, 2, 3) if complete else (1, 2):
        report.add(Outcome(source.name, Problem(415, "Unsupported", "Never.", None, sha256, frame)))
    report.flush()
    again = open_file(out, "chest", None, resume=True, force=False)
    pending = again.pending([source])
    assert pending == ([] if complete else [source])
    assert again.rejections([source], pending) == (3 if complete else 0)
