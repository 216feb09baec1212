"""Requests and responses of the control API client."""

import json
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from radserve.client import control as remote
from radserve.client.control import Control
from radserve.errors import (
    InvalidCallError,
    InvalidResponseError,
    RejectedRequestError,
    ResponseTimeoutError,
    ServerFailedError,
    UnreachableError,
)
from radserve.schema.rollout import RolloutSpec
from radserve.versions.deployment_file import parse
from tests.authority import Authority
from tests.radserve import control_documents as docs
from tests.radserve.scripted import Reply, Request, Scripted, document, problem, scripted
from tests.server import free_ports

WANT = parse("models: {chest: {versions: {1.0.0: {share: 97.5}, 1.1.0: {share: 2.5, workers: 3}}}}", "want")
WANTED = {"models": {"chest": {"versions": {"1.0.0": {"share": 97.5, "workers": None}, "1.1.0": {"share": 2.5, "workers": 3}}}}}  # fmt: skip  # noqa: E501
PLAN = RolloutSpec(version="1.1.0", shadow=50, reason="try")
CHANGE = {"action": "scale", "model": "chest", "version": "1.0.0", "detail": "chest 1.0.0: gets 2 workers"}

CALLS: list[tuple[Callable[[Control], object], str, Any, Any]] = [
    (lambda it: it.overview(), "GET /versions", None, docs.overview()),
    (lambda it: it.model("chest"), "GET /versions/chest", None, docs.model()),
    (
        lambda it: it.register("chest", "1.1.0", 2, "new"),
        "POST /versions/chest/1.1.0",
        {"workers": 2, "reason": "new"},
        docs.version(),
    ),
    (
        lambda it: it.scale("chest", "1.1.0", 3, None),
        "PATCH /versions/chest/1.1.0",
        {"workers": 3, "reason": None},
        docs.version(),
    ),
    (
        lambda it: it.unregister("chest", "1.0.0", "old & slow", force=True),
        "DELETE /versions/chest/1.0.0?force=true&reason=old+%26+slow",
        None,
        Reply(204, media_type=None),
    ),
    (
        lambda it: it.unregister("chest", "1.0.0", None, force=False),
        "DELETE /versions/chest/1.0.0",
        None,
        Reply(204, media_type=None),
    ),
    (
        lambda it: it.promote("chest", "1.1.0", None),
        "POST /versions/chest/1.1.0/promote",
        {"reason": None},
        docs.model(),
    ),
    (lambda it: it.rollback("chest", "bad"), "POST /versions/chest/rollback", {"reason": "bad"}, docs.model()),
    (lambda it: it.deployment(), "GET /deployment", None, WANTED),
    (lambda it: it.diff(WANT), "POST /deployment/diff", WANTED, {"changes": [CHANGE]}),
    (lambda it: it.apply(WANT, "file"), "PUT /deployment?reason=file", WANTED, {"changes": [CHANGE]}),
    (lambda it: it.rollout("chest"), "GET /rollouts/chest", None, docs.rollout()),
    (
        lambda it: it.start("chest", PLAN),
        "POST /rollouts/chest",
        PLAN.model_dump(mode="json", exclude={"max_shift"}),
        document(docs.rollout(), 202),
    ),
    (lambda it: it.abort("chest", None), "DELETE /rollouts/chest", None, docs.ROLLED_BACK),
    (lambda it: it.audit(7), "GET /audit?limit=7", None, {"entries": [docs.ENTRY]}),
]


@pytest.mark.parametrize(("call", "line", "body", "answer"), CALLS, ids=[item[1] for item in CALLS])
def test_each_method_sends_the_documented_request(
    api: Scripted, control: Control, call: Callable[[Control], object], line: str, body: Any, answer: Any
) -> None:
    api.say(answer if isinstance(answer, Reply) else document(answer))
    call(control)
    (request,) = api.requests
    assert f"{request.method} {request.path}" == line
    assert (json.loads(request.body) if request.body else None) == (json.loads(json.dumps(body)))


def test_a_rollout_names_a_limit_of_shift_only_if_it_has_one(api: Scripted, control: Control) -> None:
    """Servers without this limit reject the key."""
    for limit in (None, 0.25):
        api.say(document(docs.rollout()))
        control.start("chest", PLAN.model_copy(update={"max_shift": limit}))
        assert json.loads(api.requests[-1].body).get("max_shift", "absent") == (limit or "absent")


def test_a_rollout_request_has_every_documented_key() -> None:
    names = "version steps step_seconds max_error max_p95 max_slowdown max_shift min_requests workers shadow reason"
    assert sorted(PLAN.model_dump(mode="json")) == sorted(names.split())


def test_unknown_keys_of_a_newer_server_are_ignored(api: Scripted, control: Control) -> None:
    api.say(document(docs.model(rollout=docs.SHADOWED)))
    model = control.model("chest")
    first, second = model.versions
    assert (first.workers.ready, first.latency and first.latency.p95, second.latency) == (2, 0.312, None)
    assert model.rollout is not None
    assert model.rollout.shadow is not None
    assert model.rollout.shadow.examples[0].candidate == "pneumonia 0.55"
    assert not hasattr(first, "newer")
    with pytest.raises(ValueError, match="frozen"):
        first.share = 5


def test_the_socket_gets_the_user_name_and_no_key(
    api: Scripted, run_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "ada")
    api.say(document(docs.overview()))
    with Control.over_socket(run_directory / "control.sock") as control:
        control.overview()
    headers = api.requests[0].headers
    assert headers["X-Actor"] == "ada"
    assert "Authorization" not in headers


def test_the_proxy_gets_the_key_and_no_user_name(odd: Scripted) -> None:
    odd.say(document(docs.overview()))
    with Control.over_url(odd.url, "radserve_k", None) as control:
        assert control.overview().front
    headers = odd.requests[0].headers
    assert headers["Authorization"] == "Bearer radserve_k"
    assert "X-Actor" not in headers


@pytest.mark.parametrize("status", [429, 502, 503])
def test_reading_is_repeated_after_transient_failures(
    api: Scripted, control: Control, pauses: list[float], status: int
) -> None:
    api.say(Reply(status), Reply(body=b"{", announced=40), document(docs.overview()))
    control.overview()
    assert pauses == [0.25, 0.5]


def test_a_diff_counts_as_reading(api: Scripted, control: Control) -> None:
    api.say(Reply(503), document({"changes": []}))
    assert control.diff(WANT) == ()


@pytest.mark.parametrize("reply", [Reply(503), Reply(502), Reply(body=b"{", announced=40)])
def test_a_change_is_never_repeated(api: Scripted, control: Control, reply: Reply) -> None:
    api.script = lambda _: reply
    for change in (
        lambda: control.promote("chest", "1.1.0", None),
        lambda: control.apply(WANT, None),
        lambda: control.start("chest", PLAN),
        lambda: control.unregister("chest", "1.0.0", None, force=False),
    ):
        api.requests.clear()
        with pytest.raises((ServerFailedError, InvalidResponseError)):
            change()
        assert len(api.requests) == 1


def test_problem_details_become_the_error(api: Scripted, control: Control) -> None:
    api.say(problem(409, "Conflict", "chest 1.0.0 has 95 % of the requests; --force takes them away."))
    with pytest.raises(RejectedRequestError, match=r"409 Conflict: chest 1\.0\.0 has 95 %") as raised:
        control.unregister("chest", "1.0.0", None, force=False)
    assert (raised.value.status, raised.value.title) == (409, "Conflict")


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "RADSERVE_KEY, with the role manage"), (403, "lacks the role manage"), (404, "8444"), (405, "8444")],
)
def test_a_status_without_details_gets_advice(api: Scripted, control: Control, status: int, message: str) -> None:
    api.say(Reply(status, media_type=None))
    with pytest.raises(RejectedRequestError, match=message):
        control.overview()


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(body=b"<html>", media_type="text/html"), "text/html, not application/json"),
        (Reply(body=b"{"), "not valid JSON"),
        (Reply(302, headers={"Location": "/login"}), "answered 302, which a control API never does"),
        (document({"front": True}), r"unexpected response to GET /versions \(key 'models' is missing\)"),
        (
            document({"front": True, "models": [docs.model(versions=[{}])]}),
            r"models.0.versions.0.version' is missing",
        ),
        (document([]), r"\(Input should be a valid dictionary"),
    ],
)
def test_an_undocumented_response_is_invalid(api: Scripted, control: Control, reply: Reply, message: str) -> None:
    api.say(reply)
    with pytest.raises(InvalidResponseError, match=message):
        control.overview()


def test_a_missing_server_is_unreachable(tmp_path: Path, pauses: list[float]) -> None:
    with Control.over_socket(tmp_path / "control.sock") as control, pytest.raises(UnreachableError) as raised:
        control.overview()
    assert str(raised.value).startswith(f"Cannot connect to {tmp_path}/control.sock (")
    with Control.over_url(f"http://127.0.0.1:{free_ports(1)[0]}", None, None) as there, pytest.raises(UnreachableError):
        there.overview()
    with Control.over_socket(tmp_path / ("x" * 200)) as far, pytest.raises(UnreachableError):
        far.overview()


def test_a_late_response_is_a_timeout_with_advice(
    api: Scripted, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    enough = threading.Event()

    def script(_: Request) -> Reply:
        enough.wait(10)
        return Reply(500)

    api.script = script
    monkeypatch.setattr(remote, "_CHANGE_TIMEOUT", 0.1)
    try:
        with pytest.raises(ResponseTimeoutError, match=r"may still be working\. Check the state before"):
            control.rollback("chest", None)
    finally:
        enough.set()


def test_changes_have_a_long_read_timeout_only() -> None:
    assert remote._timeout(remote._CHANGE_TIMEOUT) == httpx.Timeout(connect=5, read=900, write=60, pool=60)


def test_a_private_authority_must_be_named(tmp_path: Path, pauses: list[float]) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("front")
    with scripted() as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.script = lambda _: document(docs.overview())
        url = server.url.replace("http:", "https:")
        with Control.over_url(url, "key", authority.root) as control:
            assert control.overview().models[0].name == "chest"
        with Control.over_url(url, "key", None) as stranger, pytest.raises(UnreachableError, match="--cacert FILE"):
            stranger.overview()


def test_a_file_without_certificates_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    for name in ("empty.pem", "gone.pem"):
        with pytest.raises(InvalidCallError, match=rf"--cacert .*{name}: cannot read certificates"):
            Control.over_url("https://localhost:8444", None, tmp_path / name)
