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

from tests import command_line
from tests.radserve.scripted import SHA256, Reply, Request, Scripted, answer, document, marked, prediction
from tests.server import ROOT, Server, free_ports

SAMPLE = ROOT / "archives" / "chest-xray-cnn" / "sample.png"


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Make a folder with two images and, between them, one that the server rejects."""
    for name, content in (("1.png", b"one"), ("2.png", b"bad"), ("3.png", b"three")):
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.fixture
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a folder for pictures that does not exist yet."""
    return tmp_path_factory.mktemp("pictures") / "out"


def _command(url: str, *arguments: str | Path, name: str = "chest") -> list[str]:
    return [sys.executable, "-m", "radserve", "predict", name, *map(str, arguments), "--url", url]


def _predict(
    url: str, *arguments: str | Path, name: str = "chest", stdin: bytes = b""
) -> subprocess.CompletedProcess[str]:
    return command_line.run("predict", name, *arguments, "--url", url, stdin=stdin)


def test_one_image_exits_with_0_and_only_its_model_on_stderr(odd: Scripted, films: Path) -> None:
    done = _predict(odd.url, films / "1.png")
    assert (done.returncode, done.stderr) == (0, f"chest 1.0.0, archive sha256 {SHA256}\n")
    assert "normal" in done.stdout
    assert "pneumonia 25.0%" in done.stdout
    assert "75.0%" not in done.stdout


def test_assurances_are_sent(odd: Scripted, films: Path) -> None:
    done = _predict(odd.url, films / "1.png", "--assure", "age=5", "--assure", "view=PA", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert odd.requests[-1].headers["X-Assurances"] == "age=5, view=PA"


def test_a_rejected_image_exits_with_1_and_leaves_the_others_unaffected(odd: Scripted, films: Path) -> None:
    done = _predict(odd.url, films, "--json")
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert (done.returncode, done.stderr) == (1, "2 images analysed, 1 failed.\n")
    assert (first["label"], third["label"]) == ("normal", "normal")
    assert set(second) == {"file", "problem"}


@pytest.mark.parametrize("out", [None, "results.csv", "results.jsonl", "results.parquet"])
def test_an_unusual_image_has_no_result_and_an_uncertain_one_does(
    odd: Scripted, films: Path, out: str | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    changes = {
        b"one": {"domain": {"mode": "strict", "status": "unusual", "score": 1.2, "percentile": 98.4}},
        b"bad": {"certainty": {"status": "uncertain", "prediction_set": [], "level": 0.9}},
    }
    odd.script = lambda request: document(prediction(request.body, **changes.get(request.body, {})))
    path = tmp_path_factory.mktemp("results") / (out or "")
    arguments: list[str | Path] = ["--out", path] if out else []
    done = _predict(odd.url, films, *arguments)
    counts = "3 images analysed (1 no result: unusual image; 1 uncertain: no reliable label), 0 failed."
    assert done.stderr.splitlines()[-1] == counts + (f" Results: {path}" if out else "")
    assert done.returncode == 1
    if out:
        again = _predict(odd.url, films, "--out", path, "--resume")
        assert (again.returncode, f"3 images were in {path} already, 1 of them without" in again.stderr) == (1, True)
    assert _predict(odd.url, films / "2.png").returncode == 0


def test_a_server_error_affects_one_image_only(odd: Scripted, films: Path) -> None:
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


def test_an_invalid_response_gives_no_result(odd: Scripted, films: Path) -> None:
    odd.script = lambda _: document({"label": "normal", "probability": 0.9})
    done = _predict(odd.url, films / "1.png")
    assert done.returncode == 1
    assert "no result" in done.stdout
    assert "Invalid response: key 'model' is missing" in done.stdout
    assert "90" not in done.stdout


def test_an_unreadable_file_affects_one_row_only(odd: Scripted, films: Path) -> None:
    (films / "gone.png").symlink_to("/proc/self/mem")
    done = _predict(odd.url, films / "gone.png", films / "1.png", "--json")
    first, second = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 1
    assert first["problem"]["title"] == "Unreadable file"
    assert second["label"] == "normal"


@pytest.mark.parametrize("start", [b"PK\3\4", b"PK\5\6"])
def test_a_zip_file_is_not_sent(odd: Scripted, films: Path, start: bytes) -> None:
    (films / "4.zip").write_bytes(start + b"...")
    done = _predict(odd.url, films / "4.zip", "--json")
    assert (done.returncode, odd.requests) == (1, [])
    assert "unpack it and send the folder" in json.loads(done.stdout)["problem"]["detail"]


def test_standard_input_can_be_the_image(odd: Scripted) -> None:
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
    ("arguments", "message"),
    [
        (["nowhere.png"], "nowhere.png: no such file or folder"),
        (["1.png", "--json", "--csv"], "exclude each other"),
        (["1.png", "--version", "../x"], "version has value '../x'"),
        (["1.png", "--timeout", "0"], "timeout has value 0"),
        (["1.png", "--assure", "age"], "--assure needs NAME=VALUE"),
        (["1.png", "--assure", "age=5", "--assure", "age=6"], "--assure has an attribute twice"),
        ([], "Missing argument"),
    ],
)
def test_wrong_usage_exits_with_2_and_sends_no_request(
    odd: Scripted, films: Path, arguments: list[str], message: str
) -> None:
    done = _predict(odd.url, *[films / word if word.endswith(".png") else word for word in arguments])
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert not odd.requests


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_error_that_concerns_every_image_exits_with_2_once(odd: Scripted, films: Path, status: int) -> None:
    odd.script = lambda _: document({"message": "No."}, status)
    # In a process of its own: a request in flight at its end may open a connection after the others were closed.
    done = subprocess.run(_command(odd.url, films), capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


def test_an_unreachable_server_exits_with_3_and_one_line(films: Path) -> None:
    done = _predict(f"http://127.0.0.1:{free_ports(1)[0]}", films)
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("radserve: Cannot connect to http://127.0.0.1:")
    assert "Start the server with scripts/serve" in line


@pytest.fixture
def stuck(odd: Scripted) -> Iterator[threading.Event]:
    """Delay every response after the first until the test ends."""
    arrived, enough = threading.Event(), threading.Event()

    def script(request: Request) -> Reply:
        if request.body != b"one":
            arrived.set()
            enough.wait(30)
        return answer(request)

    odd.script = script
    yield arrived
    enough.set()


def test_ctrl_c_exits_with_130_and_prints_finished_results(odd: Scripted, films: Path, stuck: threading.Event) -> None:
    process = subprocess.Popen(
        _command(odd.url, films, "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        # A shell that runs tests in the background makes them ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - a single system call
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    assert stuck.wait(20)
    process.send_signal(signal.SIGINT)
    rest, message = process.communicate(timeout=5)
    assert (process.returncode, rest) == (130, "")
    assert json.loads(first)["label"] == "normal"
    assert message == "Interrupted after 1 of 3 results.\n"


def test_a_terminal_shows_a_progress_bar_on_stderr(odd: Scripted, films: Path) -> None:
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


def test_masks_and_overlays_are_written_to_their_folders(odd: Scripted, films: Path, out: Path) -> None:
    (films / "2.png").write_bytes(b"empty")
    done = _predict(odd.url, films, "--masks", out, "--overlays", out / "on", "--json", name="glioma")
    places = f"Masks in {out}. Overlays in {out / 'on'}."
    assert (done.returncode, done.stderr) == (0, f"3 images analysed, 0 failed. {places}\n")
    assert sorted(path.name for path in out.glob("*.png")) == ["1.mask.png", "2.mask.png", "3.mask.png"]
    assert np.asarray(Pillow.open(out / "1.mask.png")).tolist() == marked().tolist()
    assert not np.asarray(Pillow.open(out / "2.mask.png")).any()
    assert sorted(path.name for path in (out / "on").iterdir()) == ["1.overlay.png", "2.overlay.png", "3.overlay.png"]
    # Pictures are of the version that gave the result, even if the default version changes.
    pictures = [request for request in odd.requests if request.headers["Accept"] == "image/png;view=overlay"]
    assert {request.path for request in pictures} == {"/predictions/glioma/1.0.0"}


def test_heat_maps_are_requested_from_explanations(odd: Scripted, films: Path, out: Path) -> None:
    done = _predict(odd.url, films / "1.png", "--explain", out, "--json")
    assert (done.returncode, done.stderr) == (0, f"1 image analysed, 0 failed. Heat maps in {out}.\n")
    assert np.asarray(Pillow.open(out / "1.heat.png")).shape == (10, 20, 3)
    assert odd.requests[-1].path == "/explanations/chest/1.0.0"


def test_a_rejected_image_writes_no_picture(odd: Scripted, films: Path, out: Path) -> None:
    done = _predict(odd.url, films, "--masks", out, name="glioma")
    assert done.returncode == 1
    assert sorted(path.name for path in out.iterdir()) == ["1.mask.png", "3.mask.png"]


def test_an_image_whose_picture_fails_has_no_result(odd: Scripted, films: Path, out: Path) -> None:
    def script(request: Request) -> Reply:
        wrong = request.headers["Accept"] != "application/json" and request.body == b"one"
        return Reply(body=b"no picture", media_type="image/png") if wrong else answer(request)

    odd.script = script
    arguments: list[str | Path] = [films / "1.png", films / "3.png", "--overlays", out, "--json"]
    done = _predict(odd.url, *arguments, name="glioma")
    first, second = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 1
    assert first["problem"]["title"] == "Invalid response"
    assert second["label"] == "tumour"


def test_an_existing_picture_is_replaced_only_with_force(odd: Scripted, films: Path, out: Path) -> None:
    there = out / "1.mask.png"
    there.parent.mkdir()
    there.write_bytes(b"mine")
    kept = _predict(odd.url, films / "1.png", "--masks", there.parent, name="glioma")
    assert (kept.returncode, kept.stdout, there.read_bytes()) == (2, "", b"mine")
    assert "1.mask.png: exists, as do 1 of 1 pictures; add --force" in kept.stderr
    assert not odd.requests
    done = _predict(odd.url, films / "1.png", "--masks", there.parent, "--force", name="glioma")
    assert (done.returncode, np.asarray(Pillow.open(there)).shape) == (0, (10, 20))


def test_two_images_with_the_same_picture_are_an_error(odd: Scripted, films: Path, out: Path) -> None:
    (films / "1.tif").write_bytes(b"one")
    done = _predict(odd.url, films, "--masks", out, name="glioma")
    assert (done.returncode, done.stdout) == (2, "")
    assert "1.mask.png: 2 images have this picture" in done.stderr


def test_pictures_are_never_written_among_the_images(odd: Scripted, films: Path, out: Path) -> None:
    done = _predict(odd.url, films, "--masks", films / "out", name="glioma")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is in a folder of images" in done.stderr


def test_an_unwritable_folder_exits_with_2(odd: Scripted, films: Path, out: Path) -> None:
    done = _predict(odd.url, films / "1.png", "--masks", films / "3.png" / "out", name="glioma")
    assert done.returncode == 2
    assert "1.mask.png: cannot be written (Not a directory)" in done.stderr


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("chest", "--masks", "no masks; use --explain"),
        ("chest", "--overlays", "no masks"),
        ("glioma", "--explain", "--mas"),
    ],
)
def test_unavailable_pictures_exit_with_2(
    odd: Scripted, films: Path, out: Path, name: str, option: str, message: str
) -> None:
    done = _predict(odd.url, films / "1.png", option, out, name=name)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert not out.exists()


@pytest.mark.parametrize("form", ["--json", "--csv", None])
def test_a_warning_is_printed_once_on_stderr_and_in_every_row(odd: Scripted, films: Path, form: str | None) -> None:
    odd.script = lambda request: document(prediction(request.body, warning="Untrained: random weights."))
    done = _predict(odd.url, films / "1.png", films / "3.png", *([form] if form else []))
    assert done.stderr.splitlines()[0] == "WARNING: chest 1.0.0: Untrained: random weights."
    assert done.stderr.count("WARNING") == 1
    assert done.stdout.count("Untrained: random weights.") == 2


@pytest.mark.parametrize("name", ["chest", "glioma"])
def test_only_the_dependencies_of_the_client_are_needed(odd: Scripted, films: Path, out: Path, name: str) -> None:
    absent = ("boto3", "fastapi", "numpy", "PIL", "pydicom", "starlette", "torch", "yaml")
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); from radserve.cli.main import main; main()"
    pictures = ["--explain", out] if name == "chest" else ["--masks", out, "--overlays", out]
    arguments = ["predict", name, films / "1.png", "--json", "--url", odd.url, *pictures]
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert sorted(path.suffixes[0] for path in out.iterdir()) == (
        [".heat"] if name == "chest" else [".mask", ".overlay"]
    )


def _corrupt(folder: Path) -> Path:
    (folder / "a_good.png").write_bytes(SAMPLE.read_bytes())
    (folder / "b_corrupt.png").write_bytes(SAMPLE.read_bytes()[:2000])
    return folder


@pytest.mark.e2e
def test_a_real_server_answers_the_sample(server: Server) -> None:
    done = _predict(server.url, SAMPLE, name="chest-xray-cnn")
    assert done.returncode == 0
    assert "\tpneumonia 99.7%\t" in done.stdout


@pytest.mark.e2e
def test_a_real_server_rejects_only_the_corrupt_image(server: Server, tmp_path: Path) -> None:
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
def test_standard_input_and_file_have_the_same_result(server: Server) -> None:
    piped = _predict(server.url, "-", "--json", name="chest-xray-cnn", stdin=SAMPLE.read_bytes())
    named = _predict(server.url, SAMPLE, "--json", name="chest-xray-cnn")
    first, second = json.loads(piped.stdout), json.loads(named.stdout)
    assert first["probability"] == pytest.approx(second["probability"], abs=1e-5)
    assert first["image"] == second["image"]


@pytest.mark.e2e
def test_an_unknown_model_exits_with_2(server: Server) -> None:
    done = _predict(server.url, SAMPLE, name="no-such-model")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Unknown model no-such-model" in done.stderr


def test_a_repair_is_sent(odd: Scripted, films: Path) -> None:
    odd.script = lambda request: document(prediction(request.body, repair="invert"))
    done = _predict(odd.url, films / "1.png", "--repair", "invert", "--csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert odd.requests[-1].path.endswith("?repair=invert")
    assert next(csv.DictReader(io.StringIO(done.stdout)))["repair"] == "invert"
    unknown = _predict(odd.url, films / "1.png", "--repair", "mirror")
    assert unknown.returncode == 2
    assert "'mirror'" in unknown.stderr
    assert "rotate-270" in unknown.stderr


def test_an_unknown_domain_mode_stops_the_server() -> None:
    for arguments, variables in ((["--domain", "lax"], {}), ([], {"RADSERVE_DOMAIN": "lax"})):
        done = command_line.run("serve", *arguments, environment=variables)
        assert done.returncode == 2
        assert "'lax'" in done.stderr
        assert "strict" in done.stderr
