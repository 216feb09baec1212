"""`radserve rollout`: begun as it was said, watched to its end, and its end is the exit code."""

from __future__ import annotations

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


def told(api: Scripted, *looks: Any, front: bool = True, begun: Any = None) -> None:
    """Let the API begin a rollout and answer one look after the other."""
    api.script = docs.routes(
        {
            "GET /versions": docs.overview(front=front),
            "POST /rollouts/chest": docs.rollout() if begun is None else begun,
            "GET /rollouts/chest": list(looks),
        }
    )


def begun(api: Scripted) -> dict[str, Any]:
    (body,) = [json.loads(request.body) for request in api.requests if request.method == "POST"]
    assert isinstance(body, dict)
    return body


def lines(err: str) -> list[str]:
    """Return what was said, without the times."""
    return [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in err.splitlines()]


def test_a_rollout_is_begun_with_what_the_options_say(api: Scripted, run: Run) -> None:
    told(api, docs.PROMOTED)
    options = "--canary 1%,100% --step 30s --max-error 0.5% --max-p95 800ms --max-slowdown off --min-requests 5"
    assert run("rollout", "chest", "1.1.0", *options.split(), "--workers", 3, "--reason", "why").code == 0
    assert begun(api) == {
        "version": "1.1.0",
        "steps": [1, 100],
        "step_seconds": 30,
        "max_error": 0.005,
        "max_p95": 0.8,
        "max_slowdown": None,
        "min_requests": 5,
        "workers": 3,
        "shadow": None,
        "reason": "why",
    }


def test_without_options_it_is_begun_carefully(api: Scripted, run: Run) -> None:
    told(api, docs.PROMOTED)
    assert run("rollout", "chest", "1.1.0").code == 0
    assert begun(api) == {
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


def test_a_line_is_written_whenever_something_changes(api: Scripted, run: Run) -> None:
    told(api, docs.rollout(), docs.rollout(), LATER, LATER, docs.PROMOTED)
    done = run("rollout", "chest", "1.1.0")
    assert done.code == 0
    assert lines(done.err) == [
        "canary (5 % of requests, step 1 of 3): 7 of 20 requests seen",
        "canary (25 % of requests, step 2 of 3): 21 of 20 requests seen",
        "promoted (100 % of requests): All steps went well.",
    ]
    assert done.out.startswith("chest 1.1.0: promoted (100 % of requests): All steps went well.\n")


def test_one_that_was_rolled_back_is_1_and_says_why(api: Scripted, run: Run) -> None:
    told(api, docs.ROLLED_BACK)
    done = run("rollout", "chest", "1.1.0")
    assert done.code == 1
    assert "chest 1.1.0: rolled back (0 % of requests): 3 of 20 requests failed; --max-error is 1 %." in done.out
    assert "1.1.0 7 0 10 ms" in [" ".join(line.split()) for line in done.out.splitlines()]


def test_one_that_fails_its_sample_is_1_though_nothing_was_observed(api: Scripted, run: Run) -> None:
    failed = docs.ROLLED_BACK | {"candidate": None, "stable": None, "step": None, "detail": "It answers wrongly."}
    told(api, docs.rollout(phase="pulling", step=None), failed)
    done = run("rollout", "chest", "1.1.0", "--json")
    assert done.code == 1
    assert json.loads(done.out)["detail"] == "It answers wrongly."


def test_a_server_that_is_away_for_a_while_is_waited_for(api: Scripted, run: Run, pauses: list[float]) -> None:
    away = [Reply(503, media_type=None)] * 7 + [Reply(body=b"{", announced=40)] * 3
    told(api, docs.rollout(), *away, docs.rollout(), docs.PROMOTED)
    done = run("rollout", "chest", "1.1.0")
    assert done.code == 0
    said = lines(done.err)
    assert said[1].startswith("the server is away, and is asked again: 503 ")
    assert said[2:] == ["the server is back", "promoted (100 % of requests): All steps went well."]


def test_a_server_that_stays_away_is_3_and_the_rollout_may_go_on(
    api: Scripted, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr("radserve.cli.follow_rollout.time.monotonic", lambda: next(clock))
    told(api, Reply(502, media_type=None))
    done = run("rollout", "chest", "1.1.0")
    assert (done.code, done.out) == (3, "")
    assert "The server was away for 180 s. The rollout of chest 1.1.0 may go on once it is back" in done.err


def test_a_server_that_forgot_the_rollout_is_1(api: Scripted, run: Run) -> None:
    told(api, docs.rollout(), problem(404, "Not found", "No rollout of chest is known."))
    done = run("rollout", "chest", "1.1.0")
    assert done.code == 1
    assert "404 Not found: No rollout of chest is known." in done.err


@pytest.mark.parametrize("other", [{"version": "1.2.0"}, {"started": "2026-03-01T12:00:05Z"}])
def test_another_rollout_in_its_place_is_not_taken_for_it(api: Scripted, run: Run, other: dict[str, Any]) -> None:
    told(api, docs.PROMOTED | other)
    done = run("rollout", "chest", "1.1.0")
    assert (done.code, done.out) == (1, "")
    assert "Another rollout of chest" in done.err


def test_no_wait_begins_and_leaves(api: Scripted, run: Run) -> None:
    told(api)
    done = run("rollout", "chest", "1.1.0", "--no-wait", "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["phase"] == "canary"
    assert [request.method for request in api.requests] == ["GET", "POST"]


def test_without_a_version_the_one_that_runs_is_watched(api: Scripted, run: Run) -> None:
    told(api, docs.rollout(), docs.PROMOTED)
    assert run("rollout", "chest").code == 0
    assert {request.method for request in api.requests} == {"GET"}
    told(api, docs.ROLLED_BACK)
    assert run("rollout", "chest").code == 1


@pytest.mark.parametrize(("found", "code"), [(docs.rollout(), 0), (docs.PROMOTED, 0), (docs.ROLLED_BACK, 1)])
def test_status_looks_once(api: Scripted, run: Run, found: Any, code: int) -> None:
    told(api, found)
    assert run("rollout", "chest", "--status").code == code
    assert len(api.requests) == 1


def test_abort_gives_it_up(api: Scripted, run: Run) -> None:
    api.script = docs.routes({"DELETE /rollouts/chest": docs.ROLLED_BACK | {"detail": "Given up by ada."}})
    done = run("rollout", "chest", "--abort", "--reason", "lunch")
    assert done.code == 0
    assert "rolled back (0 % of requests): Given up by ada." in done.out
    assert api.requests[0].path == "/rollouts/chest?reason=lunch"


def test_a_shadow_sends_copies_and_reports(api: Scripted, run: Run) -> None:
    told(api, docs.rollout(phase="shadow", share=0, step=None), docs.SHADOWED)
    done = run("rollout", "chest", "1.1.0", "--shadow", "--copies", "50%", "--step", "1m")
    assert done.code == 0
    assert (begun(api)["shadow"], begun(api)["step_seconds"]) == (50, 60)
    shown = [" ".join(line.split()) for line in done.out.splitlines()]
    for line in (
        "copies 200",
        "compared 190",
        "agreeing 189 (99.5%)",
        "dropped 8 (4.0%)",
        "failed 2 (1.0%)",
        "largest difference of probability 25.00%",
        "1.1.0 11 ms 20 ms",
        "1.0.0 10 ms 19 ms",
        "abc123 normal 0.6 pneumonia 0.55",
    ):
        assert line in shown
    told(api, docs.SHADOWED)
    assert json.loads(run("rollout", "chest", "1.1.0", "--shadow", "--json").out)["shadow"]["agreeing"] == 189
    assert json.loads(api.requests[-2].body)["shadow"] == 100


def test_without_a_front_it_is_said_that_all_requests_switch_at_once(api: Scripted, run: Run) -> None:
    told(api, docs.PROMOTED, front=False)
    done = run("rollout", "chest", "1.1.0")
    assert done.code == 0
    assert "nothing splits the requests: chest 1.1.0 is verified and then gets all of them at once" in done.err


def test_one_that_is_refused_is_1(api: Scripted, run: Run) -> None:
    told(api, begun=problem(409, "Conflict", "A rollout of chest 1.0.5 runs."))
    done = run("rollout", "chest", "1.1.0")
    assert (done.code, done.err) == (1, "radserve: 409 Conflict: A rollout of chest 1.0.5 runs.\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("chest 1.1.0 --canary 5%,100", "--canary has value '5%,100'; write a percentage above 0, such as 5%."),
        ("chest 1.1.0 --step 5", "--step has value '5'; write a time"),
        ("chest 1.1.0 --max-error 1", "--max-error has value '1'"),
        ("chest 1.1.0 --max-p95 1", "--max-p95 has value '1'"),
        ("chest 1.1.0 --max-slowdown 0", "--max-slowdown has value '0'"),
        ("chest 1.1.0 --copies 5%", "--copies has value '5%', but only --shadow makes copies"),
        ("chest 1.1.0 --shadow --canary 5%,100%", "with --shadow nobody gets the answers"),
        ("chest 1.1.0 --shadow --copies 0%", "--copies has value '0%'"),
        ("chest 1.1.0 --status", "--status is about the rollout of chest that there is; leave 1.1.0 away"),
        ("chest 1.1.0 --abort", "--abort is about"),
        ("chest --status --abort", "exclude each other"),
        ("chest --max-error 1%", "--max-error says how a rollout begins, and none does: name the VERSION"),
        ("chest --no-wait", "--no-wait says how a rollout begins"),
        ("Chest 1.1.0", "NAME has value 'Chest'"),
        ("chest latest", "VERSION has value 'latest'"),
    ],
)
def test_wrong_usage_is_2_and_begins_nothing(api: Scripted, run: Run, words: str, said: str) -> None:
    done = run("rollout", *words.split())
    assert (done.code, done.out) == (2, "")
    assert said in done.err
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


def test_ctrl_c_stops_watching_and_not_the_rollout(api: Scripted, run_directory: Path) -> None:
    told(api, docs.rollout())
    process = _started(run_directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr is not None
    first = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, b"")
    assert b"canary (5 % of requests, step 1 of 3)" in first
    assert err.decode() == (
        "Stopped watching; the rollout of chest goes on. 'radserve rollout chest' watches it again, "
        "'radserve rollout chest --abort' gives it up.\n"
    )
    assert "DELETE" not in {request.method for request in api.requests}


def test_a_person_sees_both_sides_as_they_are(api: Scripted, run_directory: Path) -> None:
    told(api, docs.rollout(), docs.PROMOTED)
    reader, terminal = pty.openpty()
    process = _started(run_directory, stdout=subprocess.PIPE, stderr=terminal)
    out, _ = process.communicate(timeout=60)
    seen = b""
    while select.select([reader], [], [], 0.2)[0]:
        seen += os.read(reader, 65536)
    os.close(reader)
    os.close(terminal)
    assert process.returncode == 0
    assert b"133" in seen
    assert b"Ctrl-C stops watching" in seen
    assert b"\x1b" not in out
