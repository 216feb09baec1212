"""Tests of radserve.cli.models against a scripted control API."""

import json

import pytest

from radserve.versions import deployment_file
from tests.radserve import control_documents as docs
from tests.radserve.cli.conftest import Run
from tests.radserve.scripted import Reply, Scripted, document, problem, scripted
from tests.server import free_ports


def rows(out: str) -> list[str]:
    """Return the lines with single spaces between cells."""
    return [" ".join(line.split()) for line in out.splitlines() if line.strip()]


def test_list_shows_every_version_in_readable_units(api: Scripted, run: Run) -> None:
    api.script = docs.routes({"GET /versions": docs.overview(rollout=docs.rollout(), quarantined=[docs.QUARANTINED])})
    result = run("models", "list")
    assert (result.code, result.err) == (0, "")
    shown = rows(result.out)
    assert "chest 1.0.0 ready 100% 2/2 3 d 200 2 312 ms" in shown
    assert "chest 1.1.0 degraded 0% 1/2 3 d 200 2 -" in shown
    assert "chest 1.1.0: canary (5% of requests, step 1 of 3): 7 of 20 requests seen\n" in result.out
    assert "chest 1.2.0: quarantined (3 of 20 requests failed)\n" in result.out


def test_versions_and_numbers_fit_a_narrow_terminal(api: Scripted, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    result = docs.overview(name="brain-tumor-attention")
    api.script = docs.routes({"GET /versions": result, "GET /versions/chest": docs.model()})
    monkeypatch.setattr("radserve.cli.terminal.PIPE_WIDTH", 80)
    for arguments in (("list",), ("show", "chest")):
        out = run("models", *arguments).out
        assert "…" not in out
        assert "degraded" in out
        assert "312 ms" in out


def test_list_reports_a_server_without_a_proxy(api: Scripted, run: Run) -> None:
    api.script = docs.routes({"GET /versions": docs.overview(front=False)})
    assert "Without a proxy, requests cannot be split: a rollout verifies a version" in run("models", "list").out
    api.script = docs.routes({"GET /versions": {"front": True, "models": []}})
    assert run("models", "list").out == "No model is registered.\n"


def test_show_prints_every_property(api: Scripted, run: Run) -> None:
    api.script = docs.routes({"GET /versions/chest": docs.model(rollout=docs.ROLLED_BACK)})
    result = run("models", "show", "chest")
    assert result.code == 0
    shown = rows(result.out)
    for line in (
        "1.0.0 1.1.0",
        "State ready degraded",
        "Share of requests 100% 0%",
        "Workers ready 2/2 1/2",
        "Age 3 d 3 d",
        "Errors (5xx) 2 (1.0%) 2 (1.0%)",
        "Rejections (4xx) 5 5",
        "Median latency 4.2 ms -",
        "95th percentile 312 ms -",
        "Archive 4.2 MB 4.2 MB",
    ):
        assert line in shown
    assert f"chest 1.0.0 (default): archive sha256 {docs.SHA256}\n" in result.out
    assert f"chest 1.1.0: archive sha256 {docs.SHA256}\n" in result.out
    assert "A rollback restores 0.9.0." in result.out
    assert "chest 1.1.0: rolled back (0% of requests): 3 of 20 requests failed" in result.out


def test_control_characters_of_a_response_are_escaped(api: Scripted, run: Run) -> None:
    outcome = docs.model(rollout=docs.rollout(detail="[red]\x1b[31m"))
    api.script = docs.routes({"GET /versions/chest": outcome})
    result = run("models", "show", "chest")
    assert r"[red]\x1b[31m" in result.out
    assert "\x1b" not in result.out


@pytest.mark.parametrize(
    ("arguments", "route", "response", "body", "message"),
    [
        (
            ["register", "chest", "1.1.0", "--workers", 2, "--reason", "new"],
            "POST /versions/chest/1.1.0",
            document(docs.version("1.1.0", state="candidate"), 201),
            {"workers": 2, "reason": "new"},
            f"chest 1.1.0 registered: candidate, 2/2 workers, 0% of requests, sha256 {docs.SHA256}.",
        ),
        (
            ["scale", "chest", "1.1.0", 3],
            "PATCH /versions/chest/1.1.0",
            docs.version("1.1.0", workers={"wanted": 3, "ready": 3}),
            {"workers": 3, "reason": None},
            "chest 1.1.0 scaled: ready, 3/3 workers",
        ),
        (
            ["promote", "chest", "1.1.0", "--reason", "good"],
            "POST /versions/chest/1.1.0/promote",
            docs.model(),
            {"reason": "good"},
            "A rollback restores 0.9.0.",
        ),
        (
            ["rollback", "chest"],
            "POST /versions/chest/rollback",
            docs.model(),
            {"reason": None},
            "chest 1.0.0 (default)",
        ),
        (
            ["release", "chest", "1.1.0"],
            "POST /versions/chest/1.1.0/release",
            docs.model(quarantined=[docs.QUARANTINED]),
            {"reason": None},
            "chest 1.2.0: quarantined (3 of 20 requests failed)",
        ),
        (
            ["unregister", "chest", "1.0.0", "--force"],
            "DELETE /versions/chest/1.0.0",
            Reply(204, media_type=None),
            None,
            "chest 1.0.0 unregistered.",
        ),
    ],
)
def test_a_change_is_requested_once_and_printed(
    api: Scripted, run: Run, arguments: list[str], route: str, response: object, body: object, message: str
) -> None:
    api.script = docs.routes({route: response})
    result = run("models", *arguments)
    assert result.code == 0, result.err
    assert message in result.out
    (request,) = api.requests
    assert (json.loads(request.body) if request.body else None) == body
    shown = json.loads(run("models", *arguments, "--json").out)
    assert shown.get("name", shown.get("version")) in ("chest", "1.1.0")


@pytest.mark.parametrize(
    ("arguments", "route", "response"),
    [
        (["list"], "GET /versions", docs.overview(rollout=docs.SHADOWED)),
        (["show", "chest"], "GET /versions/chest", docs.model()),
    ],
)
def test_json_is_one_document_with_every_documented_key(
    api: Scripted, run: Run, arguments: list[str], route: str, response: object
) -> None:
    api.script = docs.routes({route: response})
    result = run("models", *arguments, "--json")
    shown = json.loads(result.out)
    for model in shown.get("models", [shown]):
        assert set(model["versions"][0]) == set(docs.version()) - {"newer"}
    assert (result.code, result.err) == (0, "")


def test_an_exported_deployment_can_be_read_again(api: Scripted, run: Run) -> None:
    deployment = "models:\n  chest:\n    versions:\n      1.0.0:\n        share: 100\n        workers: 2\n"
    api.script = docs.Deployed(deployment)
    assert run("models", "export").out == deployment
    assert deployment_file.parse(run("models", "export", "--json").out, "json") == deployment_file.parse(
        deployment, "deployment"
    )


def test_a_rejected_change_exits_with_1_and_the_reason(api: Scripted, run: Run) -> None:
    arguments = "chest 1.0.0 has 95% of the requests."
    api.script = docs.routes({"DELETE /versions/chest/1.0.0": problem(409, "Conflict", arguments)})
    result = run("models", "unregister", "chest", "1.0.0")
    assert (result.code, result.out, result.err) == (1, "", f"radserve: 409 Conflict: {arguments}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "../x"], "NAME has value '../x'"),
        (["promote", "chest", "v2"], "VERSION has value 'v2'"),
        (["scale", "chest", "1.0.0", "0"], "workers"),
        (["list", "--cacert", "ca.pem"], "--cacert ca.pem requires --url"),
        (["list", "--url", "ftp://x"], "url has value 'ftp://x'"),
    ],
)
def test_invalid_usage_exits_with_2_without_a_request(
    api: Scripted, run: Run, arguments: list[str], message: str
) -> None:
    result = run("models", *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert not api.requests


def test_without_a_server_the_exit_code_is_3(run: Run, run_directory: object) -> None:
    result = run("models", "list")
    assert (result.code, result.out) == (3, "")
    assert result.err.startswith(f"radserve: Cannot connect to {run_directory}/control.sock (")
    assert run("models", "list", "--url", f"http://127.0.0.1:{free_ports(1)[0]}").code == 3


def test_an_option_takes_precedence_over_a_variable(
    api: Scripted, odd: Scripted, run: Run, run_directory: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    for server in (api, odd):
        server.script = docs.routes({"GET /versions": docs.overview()})
    assert run("models", "list", "--url", odd.url, "--key", "k").code == 0
    assert (len(odd.requests), len(api.requests)) == (1, 0)
    monkeypatch.setenv("RADSERVE_MANAGEMENT_URL", odd.url)
    both = run("models", "list")
    assert both.code == 2
    assert "select two servers" in both.err
    assert run("models", "list", "--runtime", run_directory).code == 0
    assert (len(odd.requests), len(api.requests)) == (1, 1)
    monkeypatch.delenv("RADSERVE_RUNTIME")
    assert run("models", "list").code == 0
    assert len(odd.requests) == 2


def test_the_server_on_this_host_is_detected(
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
