"""`radserve models`: what is shown and what is asked for."""

from __future__ import annotations

import json

import pytest

from radserve.versions import deployment_spec
from tests.radserve import control_documents as docs
from tests.radserve.cli.conftest import Run
from tests.radserve.scripted import Reply, Scripted, document, problem, scripted
from tests.server import free_ports


def rows(out: str) -> list[str]:
    """Return the lines, each cell apart by one blank."""
    return [" ".join(line.split()) for line in out.splitlines() if line.strip()]


def test_a_list_shows_every_version_in_units_that_people_read(api: Scripted, run: Run) -> None:
    api.script = docs.routes({"GET /versions": docs.overview(rollout=docs.rollout())})
    done = run("models", "list")
    assert (done.code, done.err) == (0, "")
    shown = rows(done.out)
    assert "chest 1.0.0 ready 100 % 2/2 3 d 200 2 312 ms" in shown
    assert "chest 1.1.0 degraded 0 % 1/2 3 d 200 2 -" in shown
    assert "chest 1.1.0: canary (5 % of requests, step 1 of 3): 7 of 20 requests seen\n" in done.out


def test_on_a_narrow_terminal_no_version_and_no_number_is_cut_off(
    api: Scripted, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = docs.overview(name="brain-tumor-attention")
    api.script = docs.routes({"GET /versions": found, "GET /versions/chest": docs.model()})
    monkeypatch.setattr("radserve.cli.versions_view._PIPE_WIDTH", 80)
    for words in (("list",), ("show", "chest")):
        out = run("models", *words).out
        assert "…" not in out
        assert "degraded" in out
        assert "312 ms" in out


def test_a_list_says_where_no_front_splits_the_requests(api: Scripted, run: Run) -> None:
    api.script = docs.routes({"GET /versions": docs.overview(front=False)})
    assert "No front is before this server: a rollout is verified, then switches" in run("models", "list").out
    api.script = docs.routes({"GET /versions": {"front": True, "models": []}})
    assert run("models", "list").out == "No model is registered.\n"


def test_show_has_what_the_list_has_no_room_for(api: Scripted, run: Run) -> None:
    api.script = docs.routes({"GET /versions/chest": docs.model(rollout=docs.ROLLED_BACK)})
    done = run("models", "show", "chest")
    assert done.code == 0
    shown = rows(done.out)
    for line in (
        "1.0.0 1.1.0",
        "State ready degraded",
        "Share of requests 100 % 0 %",
        "Workers ready 2/2 1/2",
        "Age 3 d 3 d",
        "Errors 2 (1.0%) 2 (1.0%)",
        "Refusals 5 5",
        "Half answered within 4.2 ms -",
        "95 % answered within 312 ms -",
        "Archive 4.2 MB 4.2 MB",
    ):
        assert line in shown
    assert f"chest 1.0.0, the default one: archive sha256 {docs.SHA256}\n" in done.out
    assert f"chest 1.1.0: archive sha256 {docs.SHA256}\n" in done.out
    assert "A rollback would lead to 0.9.0." in done.out
    assert "chest 1.1.0: rolled back (0 % of requests): 3 of 20 requests failed" in done.out


def test_what_a_server_says_reaches_no_terminal_as_control_characters(api: Scripted, run: Run) -> None:
    found = docs.model(rollout=docs.rollout(detail="[red]\x1b[31m"))
    api.script = docs.routes({"GET /versions/chest": found})
    done = run("models", "show", "chest")
    assert r"[red]\x1b[31m" in done.out
    assert "\x1b" not in done.out


@pytest.mark.parametrize(
    ("words", "route", "answer", "body", "said"),
    [
        (
            ["register", "chest", "1.1.0", "--workers", 2, "--reason", "new"],
            "POST /versions/chest/1.1.0",
            document(docs.version("1.1.0", state="candidate"), 201),
            {"workers": 2, "reason": "new"},
            f"chest 1.1.0 is registered: candidate, 2/2 workers, 0 % of requests, sha256 {docs.SHA256}.",
        ),
        (
            ["scale", "chest", "1.1.0", 3],
            "PATCH /versions/chest/1.1.0",
            docs.version("1.1.0", workers={"wanted": 3, "ready": 3}),
            {"workers": 3, "reason": None},
            "chest 1.1.0 is scaled: ready, 3/3 workers",
        ),
        (
            ["promote", "chest", "1.1.0", "--reason", "good"],
            "POST /versions/chest/1.1.0/promote",
            docs.model(),
            {"reason": "good"},
            "A rollback would lead to 0.9.0.",
        ),
        (
            ["rollback", "chest"],
            "POST /versions/chest/rollback",
            docs.model(),
            {"reason": None},
            "chest 1.0.0, the default one",
        ),
        (
            ["unregister", "chest", "1.0.0", "--force"],
            "DELETE /versions/chest/1.0.0",
            Reply(204, media_type=None),
            None,
            "chest 1.0.0 is unregistered.",
        ),
    ],
)
def test_a_change_is_asked_for_once_and_shown(
    api: Scripted, run: Run, words: list[str], route: str, answer: object, body: object, said: str
) -> None:
    api.script = docs.routes({route: answer})
    done = run("models", *words)
    assert done.code == 0, done.err
    assert said in done.out
    (request,) = api.requests
    assert (json.loads(request.body) if request.body else None) == body
    shown = json.loads(run("models", *words, "--json").out)
    assert shown.get("name", shown.get("version")) in ("chest", "1.1.0")


@pytest.mark.parametrize(
    ("words", "route", "answer"),
    [
        (["list"], "GET /versions", docs.overview(rollout=docs.SHADOWED)),
        (["show", "chest"], "GET /versions/chest", docs.model()),
    ],
)
def test_json_is_one_document_with_all_that_is_documented(
    api: Scripted, run: Run, words: list[str], route: str, answer: object
) -> None:
    api.script = docs.routes({route: answer})
    done = run("models", *words, "--json")
    shown = json.loads(done.out)
    for model in shown.get("models", [shown]):
        assert set(model["versions"][0]) == set(docs.version()) - {"newer"}
    assert (done.code, done.err) == (0, "")


def test_an_export_is_a_file_that_is_read_again(api: Scripted, run: Run) -> None:
    have = "models:\n  chest:\n    versions:\n      1.0.0:\n        share: 100\n        workers: 2\n"
    api.script = docs.Deployed(have)
    assert run("models", "export").out == have
    assert deployment_spec.parse(run("models", "export", "--json").out, "json") == deployment_spec.parse(have, "have")


def test_a_refusal_is_1_and_the_servers_words(api: Scripted, run: Run) -> None:
    words = "chest 1.0.0 has 95 % of the requests."
    api.script = docs.routes({"DELETE /versions/chest/1.0.0": problem(409, "Conflict", words)})
    done = run("models", "unregister", "chest", "1.0.0")
    assert (done.code, done.out, done.err) == (1, "", f"radserve: 409 Conflict: {words}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "../x"], "NAME has value '../x'"),
        (["promote", "chest", "v2"], "VERSION has value 'v2'"),
        (["scale", "chest", "1.0.0", "0"], "workers"),
        (["list", "--cacert", "ca.pem"], "--cacert ca.pem is for a front"),
        (["list", "--url", "ftp://x"], "url has value 'ftp://x'"),
    ],
)
def test_wrong_usage_is_2_and_asks_nothing(api: Scripted, run: Run, words: list[str], said: str) -> None:
    done = run("models", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert not api.requests


def test_nobody_there_is_3(run: Run, run_directory: object) -> None:
    done = run("models", "list")
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith(f"radserve: Cannot connect to {run_directory}/control.sock (")
    assert run("models", "list", "--url", f"http://127.0.0.1:{free_ports(1)[0]}").code == 3


def test_a_server_named_by_hand_wins_over_one_named_by_a_variable(
    api: Scripted, odd: Scripted, run: Run, run_directory: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    for server in (api, odd):
        server.script = docs.routes({"GET /versions": docs.overview()})
    assert run("models", "list", "--url", odd.url, "--key", "k").code == 0
    assert (len(odd.requests), len(api.requests)) == (1, 0)
    monkeypatch.setenv("RADSERVE_MANAGEMENT_URL", odd.url)
    both = run("models", "list")
    assert both.code == 2
    assert "name two servers" in both.err
    assert run("models", "list", "--runtime", run_directory).code == 0
    assert (len(odd.requests), len(api.requests)) == (1, 1)
    monkeypatch.delenv("RADSERVE_RUNTIME")
    assert run("models", "list").code == 0
    assert len(odd.requests) == 2


def test_the_server_that_runs_here_is_found(
    run: Run, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("tmp")
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.delenv("RADSERVE_RUNTIME")
    (folder / "radserve-x").mkdir(mode=0o700)
    with scripted(folder / "radserve-x" / "control.sock") as server:
        server.script = docs.routes({"GET /versions": docs.overview()})
        assert run("models", "list").code == 0
    assert run("models", "list").code == 3
