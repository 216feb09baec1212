from __future__ import annotations

import csv
import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from tests.radserve.scripted import Reply, Request, Scripted, answer, document, marked, prediction
from tests.server import ROOT, Server, free_ports

SAMPLE = ROOT / "archives" / "chest-xray-cnn" / "sample.png"


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Make a folder with two images and one between them that is refused."""
    for name, content in (("1.png", b"one"), ("2.png", b"bad"), ("3.png", b"three")):
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.fixture
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Name a folder for pictures that is not there yet."""
    return tmp_path_factory.mktemp("pictures") / "out"


def _command(url: str, *words: str | Path, name: str = "chest") -> list[str]:
    return [sys.executable, "-m", "radserve", "predict", name, *map(str, words), "--url", url]


def _predict(url: str, *words: str | Path, name: str = "chest", stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        _command(url, *words, name=name), input=stdin, capture_output=True, cwd=ROOT, timeout=60, check=False
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_a_film_is_answered_with_0_and_nothing_on_stderr(odd: Scripted, films: Path) -> None:
    done = _predict(odd.url, films / "1.png")
    assert (done.returncode, done.stderr) == (0, "")
    assert "normal" in done.stdout
    assert "75.0%" in done.stdout


def test_a_refused_image_among_others_is_1_and_theirs_are_answered(odd: Scripted, films: Path) -> None:
    done = _predict(odd.url, films, "--json")
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert (done.returncode, done.stderr) == (1, "2 answered, 1 not.\n")
    assert (first["label"], third["label"]) == ("normal", "normal")
    assert set(second) == {"file", "problem"}


def test_a_failure_of_the_server_is_that_images_own(odd: Scripted, films: Path) -> None:
    def script(request: Request) -> Reply:
        return document({}, 500) if request.body == b"one" else answer(request)

    odd.script = script
    done = _predict(odd.url, films, "--csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert done.returncode == 1
    assert [(Path(row["file"]).name, row["status"]) for row in rows] == [
        ("1.png", "500"),
        ("2.png", "400"),
        ("3.png", "200"),
    ]


def test_an_answer_in_the_wrong_form_is_no_answer(odd: Scripted, films: Path) -> None:
    odd.script = lambda _: document({"label": "normal", "probability": 0.9})
    done = _predict(odd.url, films / "1.png")
    assert done.returncode == 1
    assert "NO ANSWER" in done.stdout
    assert "Not an answer: Invalid response: model is missing." in done.stdout
    assert "90" not in done.stdout


def test_a_file_that_cannot_be_read_is_that_files_problem(odd: Scripted, films: Path) -> None:
    (films / "gone.png").symlink_to("/proc/self/mem")
    done = _predict(odd.url, films / "gone.png", films / "1.png", "--json")
    first, second = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 1
    assert first["problem"]["title"] == "Unreadable file"
    assert second["label"] == "normal"


def test_standard_input_is_an_image(odd: Scripted) -> None:
    done = _predict(odd.url, "-", "--json", stdin=b"one")
    assert done.returncode == 0
    assert json.loads(done.stdout)["file"] == "-"
    assert odd.requests[0].body == b"one"


def test_many_files_keep_their_order(odd: Scripted, tmp_path: Path) -> None:
    names = [tmp_path / f"{number:03}.png" for number in range(100)]
    for name in names:
        name.write_bytes(name.name.encode())
    done = _predict(odd.url, tmp_path, "--json", "--concurrency", "8")
    assert [json.loads(line)["file"] for line in done.stdout.splitlines()] == list(map(str, names))
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.png"], "nowhere.png: no such file or folder"),
        (["1.png", "--json", "--csv"], "exclude each other"),
        (["1.png", "--version", "../x"], "version has value '../x'"),
        (["1.png", "--timeout", "0"], "timeout has value 0"),
        ([], "Missing argument"),
    ],
)
def test_wrong_usage_is_2_and_asks_nothing(odd: Scripted, films: Path, words: list[str], said: str) -> None:
    done = _predict(odd.url, *[films / word if word.endswith(".png") else word for word in words])
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert not odd.requests


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_concerns_every_image_is_2_and_said_once(odd: Scripted, films: Path, status: int) -> None:
    odd.script = lambda _: document({"message": "No."}, status)
    done = _predict(odd.url, films)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


def test_nobody_there_is_3_and_one_line_says_what_to_do(films: Path) -> None:
    done = _predict(f"http://127.0.0.1:{free_ports(1)[0]}", films)
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("radserve: Nobody answers at http://127.0.0.1:")
    assert "start the server with scripts/serve" in line


@pytest.fixture
def stuck(odd: Scripted) -> Iterator[threading.Event]:
    """Let the server answer the first image and then nobody until the test ends."""
    arrived, enough = threading.Event(), threading.Event()

    def script(request: Request) -> Reply:
        if request.body != b"one":
            arrived.set()
            enough.wait(30)
        return answer(request)

    odd.script = script
    yield arrived
    enough.set()


def test_ctrl_c_is_130_at_once_and_keeps_what_was_answered(odd: Scripted, films: Path, stuck: threading.Event) -> None:
    process = subprocess.Popen(
        _command(odd.url, films, "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        # Tests that a shell runs in the background inherit that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - a single system call
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    assert stuck.wait(20)
    process.send_signal(signal.SIGINT)
    rest, said = process.communicate(timeout=5)
    assert (process.returncode, rest) == (130, "")
    assert json.loads(first)["label"] == "normal"
    assert said == "Interrupted; 1 of 3 images were answered.\n"


def test_a_person_sees_a_progress_bar_and_standard_output_stays_clean(odd: Scripted, films: Path) -> None:
    reader, terminal = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        _command(odd.url, films, "--csv"), stdout=subprocess.PIPE, stderr=terminal, env=environment, cwd=ROOT
    )
    out, _ = process.communicate(timeout=60)
    seen = b""
    while select.select([reader], [], [], 0.2)[0]:
        seen += os.read(reader, 65536)
    os.close(reader)
    os.close(terminal)
    assert b"3/3" in seen
    assert b"\x1b" not in out
    assert len(out.splitlines()) == 4


def test_masks_and_overlays_are_written_where_they_were_asked_for(odd: Scripted, films: Path, out: Path) -> None:
    (films / "2.png").write_bytes(b"empty")
    done = _predict(odd.url, films, "--masks", out, "--overlays", out / "on", "--json", name="glioma")
    assert (done.returncode, done.stderr) == (0, "3 answered, 0 not.\n")
    assert sorted(path.name for path in out.glob("*.png")) == ["1.mask.png", "2.mask.png", "3.mask.png"]
    assert np.asarray(Pillow.open(out / "1.mask.png")).tolist() == marked().tolist()
    assert not np.asarray(Pillow.open(out / "2.mask.png")).any()
    assert sorted(path.name for path in (out / "on").iterdir()) == ["1.overlay.png", "2.overlay.png", "3.overlay.png"]
    # Of the version that answered, not of one that became the default meanwhile.
    pictures = [request for request in odd.requests if request.headers["Accept"] == "image/png;view=overlay"]
    assert {request.path for request in pictures} == {"/predictions/glioma/1.0.0"}


def test_heat_maps_are_those_of_the_explanations(odd: Scripted, films: Path, out: Path) -> None:
    done = _predict(odd.url, films / "1.png", "--explain", out)
    assert (done.returncode, done.stderr) == (0, "")
    assert np.asarray(Pillow.open(out / "1.heat.png")).shape == (10, 20, 3)
    assert odd.requests[-1].path == "/explanations/chest/1.0.0"


def test_a_refused_image_leaves_no_picture(odd: Scripted, films: Path, out: Path) -> None:
    done = _predict(odd.url, films, "--masks", out, name="glioma")
    assert done.returncode == 1
    assert sorted(path.name for path in out.iterdir()) == ["1.mask.png", "3.mask.png"]


def test_an_image_whose_picture_fails_is_not_answered(odd: Scripted, films: Path, out: Path) -> None:
    def script(request: Request) -> Reply:
        wrong = request.headers["Accept"] != "application/json" and request.body == b"one"
        return Reply(body=b"no picture", media_type="image/png") if wrong else answer(request)

    odd.script = script
    words: list[str | Path] = [films / "1.png", films / "3.png", "--overlays", out, "--json"]
    done = _predict(odd.url, *words, name="glioma")
    first, second = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 1
    assert first["problem"]["title"] == "Not an answer"
    assert second["label"] == "tumour"


def test_a_picture_that_exists_is_kept_unless_forced(odd: Scripted, films: Path, out: Path) -> None:
    there = out / "1.mask.png"
    there.parent.mkdir()
    there.write_bytes(b"mine")
    kept = _predict(odd.url, films / "1.png", "--masks", there.parent, name="glioma")
    assert (kept.returncode, kept.stdout, there.read_bytes()) == (2, "", b"mine")
    assert "1.mask.png: exists (1 of 1 do); add --force" in kept.stderr
    assert not odd.requests
    done = _predict(odd.url, films / "1.png", "--masks", there.parent, "--force", name="glioma")
    assert (done.returncode, np.asarray(Pillow.open(there)).shape) == (0, (10, 20))


def test_two_images_do_not_share_a_picture(odd: Scripted, films: Path, out: Path) -> None:
    (films / "1.tif").write_bytes(b"one")
    done = _predict(odd.url, films, "--masks", out, name="glioma")
    assert (done.returncode, done.stdout) == (2, "")
    assert "1.mask.png: 2 images would be written there" in done.stderr


def test_pictures_are_not_put_among_the_images(odd: Scripted, films: Path, out: Path) -> None:
    done = _predict(odd.url, films, "--masks", films / "out", name="glioma")
    assert (done.returncode, done.stdout) == (2, "")
    assert "lies among the images themselves" in done.stderr


def test_a_folder_that_cannot_be_written_is_2(odd: Scripted, films: Path, out: Path) -> None:
    done = _predict(odd.url, films / "1.png", "--masks", films / "3.png" / "out", name="glioma")
    assert done.returncode == 2
    assert "1.mask.png: cannot be written (Not a directory)" in done.stderr


@pytest.mark.parametrize(
    ("name", "option", "said"),
    [
        ("chest", "--masks", "no masks; --explain"),
        ("chest", "--overlays", "no masks"),
        ("glioma", "--explain", "--mas"),
    ],
)
def test_pictures_that_the_model_does_not_have_are_2(
    odd: Scripted, films: Path, out: Path, name: str, option: str, said: str
) -> None:
    done = _predict(odd.url, films / "1.png", option, out, name=name)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert not out.exists()


@pytest.mark.parametrize("form", ["--json", "--csv", None])
def test_an_untrained_model_is_named_once_on_stderr_and_beside_every_answer(
    odd: Scripted, films: Path, form: str | None
) -> None:
    odd.script = lambda request: document(prediction(request.body, warning="Untrained: random weights."))
    done = _predict(odd.url, films / "1.png", films / "3.png", *([form] if form else []))
    assert done.stderr.splitlines()[0] == "WARNING: chest 1.0.0: Untrained: random weights."
    assert done.stderr.count("WARNING") == 1
    assert done.stdout.count("Untrained: random weights.") == 2


def _corrupt(folder: Path) -> Path:
    (folder / "a_good.png").write_bytes(SAMPLE.read_bytes())
    (folder / "b_corrupt.png").write_bytes(SAMPLE.read_bytes()[:2000])
    return folder


@pytest.mark.e2e
def test_the_sample_is_answered_by_a_real_server(server: Server) -> None:
    done = _predict(server.url, SAMPLE, name="chest-xray-cnn")
    assert (done.returncode, done.stderr) == (0, "")
    assert "%" in done.stdout


@pytest.mark.e2e
def test_a_real_server_answers_the_good_film_beside_a_corrupt_one(server: Server, tmp_path: Path) -> None:
    done = _predict(server.url, _corrupt(tmp_path), "--json", name="chest-xray-cnn")
    good, corrupt = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 1
    assert 0 <= good["probability"] <= 1
    assert corrupt["problem"]["status"] == 400
    assert "label" not in corrupt


@pytest.mark.e2e
def test_csv_of_a_real_server(server: Server, tmp_path: Path) -> None:
    done = _predict(server.url, _corrupt(tmp_path), "--csv", name="chest-xray-cnn")
    good, corrupt = csv.DictReader(io.StringIO(done.stdout))
    assert (good["status"], good["model"], corrupt["status"], corrupt["label"]) == ("200", "chest-xray-cnn", "400", "")


@pytest.mark.e2e
def test_standard_input_and_the_file_get_the_same_answer(server: Server) -> None:
    piped = _predict(server.url, "-", "--json", name="chest-xray-cnn", stdin=SAMPLE.read_bytes())
    named = _predict(server.url, SAMPLE, "--json", name="chest-xray-cnn")
    first, second = json.loads(piped.stdout), json.loads(named.stdout)
    assert first["probability"] == pytest.approx(second["probability"], abs=1e-5)
    assert first["image"] == second["image"]


@pytest.mark.e2e
def test_a_model_that_is_not_served_is_2(server: Server) -> None:
    done = _predict(server.url, SAMPLE, name="no-such-model")
    assert (done.returncode, done.stdout) == (2, "")
    assert "radserve build" in done.stderr
