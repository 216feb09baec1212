"""Tests of radserve.cli.rollout and follow_rollout against a scripted control API."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.radserve import control_documents as docs
from tests.radserve.cli.conftest import Run
from tests.radserve.scripted import Reply, Scripted, problem

LATER = docs.rollout(share=25, step=1, detail="21 of 20 requests seen")


def script(api: Scripted, *statuses: Any, front: bool = True, started: Any = None) -> None:
    """Let the API start a rollout and return one status after the other."""
    api.script = docs.routes(
        {
            "GET /versions": docs.overview(front=front),
            "POST /rollouts/chest": docs.rollout() if started is None else started,
            "GET /rollouts/chest": list(statuses),
        }
    )


def sent_spec(api: Scripted) -> dict[str, Any]:
    (body,) = [json.loads(request.body) for request in api.requests if request.method == "POST"]
    assert isinstance(body, dict)
    return body


def lines(err: str) -> list[str]:
    """Return the lines without their times."""
    return [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in err.splitlines()]


def test_options_become_the_specification(api: Scripted, run: Run) -> None:
    script(api, docs.PROMOTED)
    options = "--canary 1%,100% --step 30s --max-error 0.5% --max-p95 800ms --max-slowdown off --max-shift 0.25"
    options += " --min-requests 5 --workers 3 --reason why"
    assert run("rollout", "chest", "1.1.0", *options.split()).code == 0
    assert sent_spec(api) == {
        "version": "1.1.0",
        "steps": [1, 100],
        "step_seconds": 30,
        "max_error": 0.005,
        "max_p95": 0.8,
        "max_slowdown": None,
        "max_shift": 0.25,
        "min_requests": 5,
        "workers": 3,
        "shadow": None,
        "reason": "why",
    }


def test_the_default_specification_is_cautious(api: Scripted, run: Run) -> None:
    script(api, docs.PROMOTED)
    assert run("rollout", "chest", "1.1.0").code == 0
    assert sent_spec(api) == {
        "version": "1.1.0",
        "steps": [5, 25, 100],
        "step_seconds": 300,
        "max_error": 0.01,
        "max_p95": None,
        "max_slowdown": 2,
        "min_requests": 20,
        "workers": None,
        "shadow": None,
        "reason": "",
    }


def test_each_change_is_a_line(api: Scripted, run: Run) -> None:
    script(api, docs.rollout(), docs.rollout(), LATER, LATER, docs.PROMOTED)
    result = run("rollout", "chest", "1.1.0")
    assert result.code == 0
    assert lines(result.err) == [
        "canary (5% of requests, step 1 of 3): 7 of 20 requests seen",
        "canary (25% of requests, step 2 of 3): 21 of 20 requests seen",
        "promoted (100% of requests): All steps went well.",
    ]
    assert result.out.startswith("chest 1.1.0: promoted (100% of requests): All steps went well.\n")


def test_a_rollback_exits_with_1_and_the_reason(api: Scripted, run: Run) -> None:
    script(api, docs.ROLLED_BACK)
    result = run("rollout", "chest", "1.1.0")
    assert result.code == 1
    assert "chest 1.1.0: rolled back (0% of requests): 3 of 20 requests failed; --max-error is 1%." in result.out
    assert "1.1.0 7 0 10 ms" in [" ".join(line.split()) for line in result.out.splitlines()]


def test_a_rollback_before_the_first_step_exits_with_1(api: Scripted, run: Run) -> None:
    failed = docs.ROLLED_BACK | {"candidate": None, "stable": None, "step": None, "detail": "It answers wrongly."}
    script(api, docs.rollout(phase="pulling", step=None), failed)
    result = run("rollout", "chest", "1.1.0", "--json")
    assert result.code == 1
    assert json.loads(result.out)["detail"] == "It answers wrongly."


def test_an_unavailable_server_is_polled_again(api: Scripted, run: Run, pauses: list[float]) -> None:
    away = [Reply(503, media_type=None)] * 7 + [Reply(body=b"{", announced=40)] * 3
    script(api, docs.rollout(), *away, docs.rollout(), docs.PROMOTED)
    result = run("rollout", "chest", "1.1.0")
    assert result.code == 0
    message = lines(result.err)
    assert message[1].startswith("the server is unavailable, retrying: 503 ")
    assert message[2:] == ["the server is available again", "promoted (100% of requests): All steps went well."]


def test_a_server_that_stays_unavailable_exits_with_3(api: Scripted, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr("radserve.cli.follow_rollout.time.monotonic", lambda: next(clock))
    script(api, Reply(502, media_type=None))
    result = run("rollout", "chest", "1.1.0")
    assert (result.code, result.out) == (3, "")
    assert "The server was unavailable for 180 s. It resumes the rollout of chest 1.1.0 after a restart" in result.err


def test_an_unknown_rollout_exits_with_1(api: Scripted, run: Run) -> None:
    script(api, docs.rollout(), problem(404, "Not found", "No rollout of chest is known."))
    result = run("rollout", "chest", "1.1.0")
    assert result.code == 1
    assert "404 Not found: No rollout of chest is known." in result.err


@pytest.mark.parametrize("other", [{"version": "1.2.0"}, {"started": "2026-03-01T12:00:05Z"}])
def test_a_replaced_rollout_exits_with_1(api: Scripted, run: Run, other: dict[str, Any]) -> None:
    script(api, docs.PROMOTED | other)
    result = run("rollout", "chest", "1.1.0")
    assert (result.code, result.out) == (1, "")
    assert "Another rollout of chest" in result.err


def test_no_wait_starts_the_rollout_only(api: Scripted, run: Run) -> None:
    script(api)
    result = run("rollout", "chest", "1.1.0", "--no-wait", "--json")
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out)["phase"] == "canary"
    assert [request.method for request in api.requests] == ["GET", "POST"]


def test_without_a_version_the_current_rollout_is_watched(api: Scripted, run: Run) -> None:
    script(api, docs.rollout(), docs.PROMOTED)
    assert run("rollout", "chest").code == 0
    assert {request.method for request in api.requests} == {"GET"}
    script(api, docs.ROLLED_BACK)
    assert run("rollout", "chest").code == 1


@pytest.mark.parametrize(("status", "code"), [(docs.rollout(), 0), (docs.PROMOTED, 0), (docs.ROLLED_BACK, 1)])
def test_status_sends_one_request(api: Scripted, run: Run, status: Any, code: int) -> None:
    script(api, status)
    assert run("rollout", "chest", "--status").code == code
    assert len(api.requests) == 1


def test_abort_sends_the_reason(api: Scripted, run: Run) -> None:
    api.script = docs.routes({"DELETE /rollouts/chest": docs.ROLLED_BACK | {"detail": "Aborted by ada."}})
    result = run("rollout", "chest", "--abort", "--reason", "lunch")
    assert result.code == 0
    assert "rolled back (0% of requests): Aborted by ada." in result.out
    assert api.requests[0].path == "/rollouts/chest?reason=lunch"


def test_a_shadow_prints_its_report(api: Scripted, run: Run) -> None:
    script(api, docs.rollout(phase="shadow", share=0, step=None), docs.SHADOWED)
    result = run("rollout", "chest", "1.1.0", "--shadow", "--copies", "50%", "--step", "1m")
    assert result.code == 0
    assert (sent_spec(api)["shadow"], sent_spec(api)["step_seconds"]) == (50, 60)
    shown = [" ".join(line.split()) for line in result.out.splitlines()]
    for line in (
        "copies 200",
        "compared 190",
        "agreeing 189 (99.5%)",
        "dropped 8 (4.0%)",
        "failed 2 (1.0%)",
        "largest difference of probability 25.00%",
        "shift of label (index), 190 images 0.30",
        "1.1.0 11 ms 20 ms",
        "1.0.0 10 ms 19 ms",
        "abc123 normal 0.6 pneumonia 0.55",
    ):
        assert line in shown
    script(api, docs.SHADOWED)
    assert json.loads(run("rollout", "chest", "1.1.0", "--shadow", "--json").out)["shadow"]["agreeing"] == 189
    assert json.loads(api.requests[-2].body)["shadow"] == 100


def test_without_a_proxy_a_note_says_that_all_requests_switch_at_once(api: Scripted, run: Run) -> None:
    script(api, docs.PROMOTED, front=False)
    result = run("rollout", "chest", "1.1.0")
    assert result.code == 0
    assert "chest 1.1.0 is verified and then receives all of them at once" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("chest 1.1.0 --canary 5%,100", "--canary has value '5%,100'; use a percentage above 0, such as 5%."),
        ("chest 1.1.0 --step 5", "--step has value '5'; use a duration"),
        ("chest 1.1.0 --max-error 1", "--max-error has value '1'"),
        ("chest 1.1.0 --max-p95 1", "--max-p95 has value '1'"),
        ("chest 1.1.0 --max-shift 0", "--max-shift has value '0'; use a number above 0, such as 0.25, or 'off'"),
        ("chest 1.1.0 --max-shift 0.25 --canary 100%", "add a smaller step or omit max_shift"),
        ("chest 1.1.0 --max-slowdown 0", "--max-slowdown has value '0'"),
        ("chest 1.1.0 --copies 5%", "--copies has value '5%', but only --shadow makes copies"),
        ("chest 1.1.0 --shadow --canary 5%,100%", "--shadow has no steps; omit one of them"),
        ("chest 1.1.0 --shadow --copies 0%", "--copies has value '0%'"),
        ("chest 1.1.0 --status", "--status refers to the current rollout of chest; omit 1.1.0"),
        ("chest 1.1.0 --abort", "--abort refers to"),
        ("chest --status --abort", "exclude each other"),
        ("chest --max-error 1%", "--max-error applies to the start of a rollout; add the VERSION"),
        ("chest --no-wait", "--no-wait applies to the start of a rollout"),
        ("chest 1.1.0 --step 1000h", "Invalid rollout: key 'step_seconds' has value 3600000.0"),
        ("Chest 1.1.0", "NAME has value 'Chest'"),
        ("chest latest", "VERSION has value 'latest'"),
    ],
)
def test_invalid_usage_exits_with_2_without_a_request(api: Scripted, run: Run, arguments: str, message: str) -> None:
    result = run("rollout", *arguments.split())
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert not api.requests


def _started(run_directory: Path, **streams: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "radserve", "rollout", "chest", "1.1.0", "--runtime", str(run_directory)],
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
        cwd=ROOT,
        # Tests that a shell runs in the background inherit that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - a single system call
        **streams,
    )


def test_ctrl_c_stops_only_the_watching(api: Scripted, run_directory: Path) -> None:
    script(api, docs.rollout())
    process = _started(run_directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr is not None
    first = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, b"")
    assert b"canary (5% of requests, step 1 of 3)" in first
    assert err.decode() == (
        "Stopped watching; the rollout of chest continues. 'radserve rollout chest' watches it again, "
        "'radserve rollout chest --abort' aborts it.\n"
    )
    assert "DELETE" not in {request.method for request in api.requests}


def test_a_terminal_shows_the_traffic_of_both_versions(api: Scripted, run_directory: Path) -> None:
    script(api, docs.rollout(), docs.PROMOTED)
    reader, terminal = pty.openpty()
    process = _started(run_directory, stdout=subprocess.PIPE, stderr=terminal)
    out, _ = process.communicate(timeout=60)
    output = b""
    while select.select([reader], [], [], 0.2)[0]:
        output += os.read(reader, 65536)
    os.close(reader)
    os.close(terminal)
    assert process.returncode == 0
    assert b"133" in output
    assert b"Ctrl-C stops watching" in output
    assert b"\x1b" not in out
