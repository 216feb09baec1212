"""Tests of radserve.cli.apply against a scripted control API."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.radserve import control_documents as docs
from tests.radserve.cli.conftest import Run
from tests.radserve.scripted import Scripted, document, problem

HAVE = "models: {chest: {versions: {1.0.0: {workers: 2}}}, lung: {versions: {1.0.0: {workers: 1}}}}"
GROWN = "models: {chest: {versions: {1.0.0: {share: 95}, 1.1.0: {share: 5}}}, lung: {versions: {1.0.0: {}}}}"
LESS = "models: {chest: {versions: {1.0.0: {}}}}"


@pytest.fixture
def deployed(api: Scripted) -> docs.Deployed:
    """A control API with two models."""
    server = docs.Deployed(HAVE)
    api.script = server
    return server


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "wanted.yaml"


def methods(api: Scripted) -> list[str]:
    return [request.method for request in api.requests]


def test_diff_exits_with_0_without_changes_and_with_1_otherwise(
    api: Scripted, deployed: docs.Deployed, run: Run, file: Path
) -> None:
    file.write_text(HAVE)
    same = run("diff", file)
    assert (same.code, same.out, same.err) == (0, "", "")
    file.write_text(GROWN)
    other = run("diff", file)
    assert (other.code, other.err) == (1, "")
    assert [line.split(None, 1) for line in other.out.splitlines()] == [
        ["register", "chest 1.1.0: new version, default number of workers"],
        ["share", "chest 1.0.0: 95% of requests instead of 100%"],
        ["share", "chest 1.1.0: 5% of requests instead of 0%"],
    ]
    (first, *_) = json.loads(run("diff", file, "--json").out)["changes"]
    assert (first["action"], first["model"], first["version"]) == ("register", "chest", "1.1.0")
    assert "PUT" not in methods(api)


@pytest.mark.parametrize("text", [None, "models: {chest: {}}", "nothing"])
def test_diff_exits_with_2_for_an_invalid_file(api: Scripted, run: Run, file: Path, text: str | None) -> None:
    if text is not None:
        file.write_text(text)
    result = run("diff", file)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"radserve: {file}: ")
    assert not api.requests


def test_diff_exits_with_2_without_a_server_or_if_it_fails(api: Scripted, run: Run, file: Path, tmp_path: Path) -> None:
    file.write_text(HAVE)
    assert run("diff", file, "--runtime", tmp_path).code == 2
    api.script = lambda _: problem(500, "Internal error", "The log says more.")
    assert run("diff", file).code == 2


def test_apply_prints_and_makes_changes_and_a_second_run_makes_none(
    api: Scripted, deployed: docs.Deployed, run: Run, file: Path
) -> None:
    file.write_text(GROWN)
    result = run("apply", file, "--reason", "release 7")
    assert (result.code, result.err) == (0, "")
    assert "chest 1.1.0: 5% of requests instead of 0%\n" in result.out
    assert result.out.endswith("Done.\n")
    assert api.requests[-1].path == "/deployment?reason=release+7"
    again = run("apply", file)
    assert (again.code, again.out) == (0, "No changes.\n")
    assert methods(api) == ["POST", "PUT", "POST"]
    assert run("diff", file).code == 0


def test_apply_reads_deployment_yaml_by_default(
    deployed: docs.Deployed, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "deployment.yaml: No such file" in run("apply").err
    (tmp_path / "deployment.yaml").write_text(GROWN)
    assert run("apply").code == 0
    assert run("diff").code == 0


def test_without_a_terminal_a_version_is_unregistered_only_with_yes(
    api: Scripted, deployed: docs.Deployed, run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(LESS)
    monkeypatch.setattr("sys.stdin", (ROOT / "LICENSE").open())
    rejected = run("apply", file)
    sys.stdin.close()
    assert rejected.code == 2
    assert "unregister  lung 1.0.0: removed, with 100% of requests\n" in rejected.out
    assert "lung 1.0.0 would be unregistered; confirm with --yes" in rejected.err
    assert "PUT" not in methods(api)
    assert run("apply", file, "--yes").code == 0
    assert deployed.have.find("lung", "1.0.0") is None


@pytest.mark.parametrize(("answer", "code", "left"), [(b"n\n", 1, True), (b"y\n", 0, False)])
def test_apply_asks_before_a_version_is_unregistered(
    deployed: docs.Deployed, run_directory: Path, file: Path, answer: bytes, code: int, *, left: bool
) -> None:
    file.write_text(LESS)
    ours, terminal = pty.openpty()
    os.write(ours, answer)
    command = [sys.executable, "-m", "radserve", "apply", str(file), "--runtime", str(run_directory)]
    result = subprocess.run(command, stdin=terminal, capture_output=True, cwd=ROOT, timeout=60, check=False)
    os.close(ours)
    os.close(terminal)
    assert result.returncode == code
    assert b"Unregister lung 1.0.0? [y/N]" in result.stderr
    assert (deployed.have.find("lung", "1.0.0") is not None) == left


def test_with_json_only_the_applied_changes_are_on_standard_output(
    deployed: docs.Deployed, run: Run, file: Path
) -> None:
    file.write_text(GROWN)
    result = run("apply", file, "--json")
    assert [item["action"] for item in json.loads(result.out)["changes"]] == ["register", "share", "share"]
    assert "5% of requests" in result.err
    assert json.loads(run("apply", file, "--json").out) == {"changes": []}


def test_changes_that_differ_from_the_plan_are_printed(api: Scripted, run: Run, file: Path) -> None:
    file.write_text(HAVE)
    change = {"action": "scale", "model": "chest", "version": "1.0.0", "detail": "chest 1.0.0: gets 2 workers"}
    other = change | {"action": "register"}
    api.script = docs.routes({"POST /deployment/diff": {"changes": [change]}, "PUT /deployment": {"changes": [other]}})
    assert "The server changed in the meantime. Applied:\nregister " in run("apply", file).out


def test_a_failed_apply_exits_with_1(api: Scripted, run: Run, file: Path) -> None:
    file.write_text(HAVE)
    change = {"action": "scale", "model": "chest", "version": "1.0.0", "detail": "chest 1.0.0: gets 2 workers"}
    failed = problem(409, "Conflict", "chest 1.0.0 answers its sample wrongly.")
    api.script = docs.routes({"POST /deployment/diff": {"changes": [change]}, "PUT /deployment": failed})
    result = run("apply", file)
    assert (result.code, result.err) == (1, "radserve: 409 Conflict: chest 1.0.0 answers its sample wrongly.\n")


def test_the_audit_log_shows_actor_action_and_reason(api: Scripted, run: Run) -> None:
    sparse = {"time": docs.STARTED, "actor": "radserve", "action": "start", "previous": None}
    api.script = lambda _: document({"entries": [sparse, docs.ENTRY]})
    result = run("audit", "--limit", 2)
    last = " ".join(result.out.split()[-11:])
    assert result.code == 0
    assert last == f"ada promote chest 1.1.0 {docs.SHA256[:12]} requested by the ward from 1.0.0"
    assert api.requests[0].path == "/audit?limit=2"
    shown = json.loads(run("audit", "--json").out)["entries"]
    assert shown[1] == docs.ENTRY
    api.script = lambda _: document({"entries": []})
    assert run("audit").out == "The audit log is empty.\n"


def test_a_verification_of_the_audit_log_exits_with_1_if_it_is_damaged(api: Scripted, run: Run) -> None:
    result = {"entries": 7, "head": "ab" * 32, "problem": None}
    api.script = docs.routes({"GET /audit/verification": result})
    shown = run("audit", "verify", "--head", "cd" * 32)
    assert (shown.code, shown.out) == (0, f"intact\n7 entries, head {'ab' * 32}\n")
    api.script = docs.routes({"GET /audit/verification": result | {"problem": "line 3 does not match"}})
    shown = run("audit", "verify")
    assert (shown.code, shown.out.splitlines()[0]) == (1, "line 3 does not match")
    assert json.loads(run("audit", "verify", "--json").out)["problem"] == "line 3 does not match"
    assert run("audit", "verify", "--head", "x").code == 2


def test_a_state_folder_is_verified_without_a_server(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    log.touch()
    assert run("audit", "verify", "--state", tmp_path).out == f"intact\n0 entries, head {'0' * 64}\n"
    log.write_text("{}\n")
    result = run("audit", "verify", "--state", tmp_path)
    assert (result.code, "line 1 does not match the line before it" in result.out) == (1, True)
    log.unlink()
    missing = run("audit", "verify", "--state", tmp_path)
    assert (missing.code, "has no audit.jsonl" in missing.err) == (2, True)
    assert run("audit", "verify", "--state", tmp_path / "typo").code == 2
