"""Tests of radserve.server.health_api."""

from pathlib import Path

import httpx
import pytest

from radserve.client import response as client_response
from radserve.server.components import Components
from radserve.server.status import State
from radserve.torchserve.registry import Pair
from tests.radserve.minimal_archive import write_archive
from tests.radserve.server.conftest import TestServer


def get(server: TestServer, path: str, *, refresh: bool = True) -> httpx.Response:
    """Send a request to the health API on its port."""

    async def steps(components: Components) -> httpx.Response:
        if refresh:
            await components.registry.refresh()
        async with components.health, httpx.AsyncClient() as client:
            return await client.get(f"http://127.0.0.1:{components.options.health_port}{path}")

    response = server.run(steps)
    assert isinstance(response, httpx.Response)
    return response


@pytest.mark.parametrize("state", list(State))
def test_ready_is_200_only_while_every_model_answers(server: TestServer, state: State) -> None:
    server.components.status.update(state, "because")
    response = get(server, "/ready")
    assert response.status_code == (200 if state in (State.READY, State.DEGRADED) else 503)
    assert response.json() == {"state": state.value, "detail": "because"}


def test_failures_of_background_tasks_are_listed(server: TestServer) -> None:
    async def steps(components: Components) -> httpx.Response:
        async def broken() -> None:
            raise ZeroDivisionError

        components.tasks.start("key reload", broken)
        async with components.health, httpx.AsyncClient() as client:
            url = f"http://127.0.0.1:{components.options.health_port}"
            assert 'radserve_task_failures_total{task="key reload"}' in (await client.get(f"{url}/metrics")).text
            response = await client.get(f"{url}/ready")
        await components.tasks.stop()
        return response

    assert server.run(steps).json() == {
        "state": "starting",
        "detail": "TorchServe is starting.",
        "problems": ["key reload failed (ZeroDivisionError) and starts again; the log says why."],
    }


def test_problems_of_the_deployment_state_do_not_affect_readiness(server: TestServer) -> None:
    server.components.status.update(State.READY, "because")
    server.components.versions.deployment_state.problem = "not stored"
    response = get(server, "/ready")
    assert response.status_code == 200
    assert response.json() == {"state": "ready", "detail": "because", "problems": ["not stored"]}


def test_live_is_200_in_every_state(server: TestServer) -> None:
    response = get(server, "/live")
    assert (response.status_code, response.json()["state"]) == (200, "starting")


def test_other_paths_get_a_404_that_names_the_inference_port(server: TestServer) -> None:
    response = get(server, "/predictions/brightness")
    assert (response.status_code, response.headers["Content-Type"]) == (404, "application/problem+json")
    error = client_response.problem(response)
    assert str(error).startswith("404 Not the inference port: This is the health port (--health-port), with /live")
    assert "Send images to the port of --port" in str(error)


def test_every_key_is_rejected_without_a_keyring(server: TestServer) -> None:
    assert get(server, "/auth").status_code == 401


def test_the_catalog_lists_the_open_versions(server: TestServer) -> None:
    (model,) = get(server, "/catalog").json()["models"]
    assert model["name"] == "brightness"
    assert [(item["version"], item["share"], item["title"]) for item in model["versions"]] == [
        ("1.0.0", 100.0, "Bright or dark")
    ]


@pytest.mark.parametrize(
    ("state", "concerned", "ready"),
    [
        (State.READY, set(), True),
        (State.DEGRADED, {("brightness", "1.0.0")}, True),
        (State.UNAVAILABLE, {("other", "1.0.0")}, True),
        (State.UNAVAILABLE, {("other", "1.0.0"), ("brightness", "1.0.0")}, False),
        (State.UNAVAILABLE, set(), False),
        (State.STARTING, set(), False),
        (State.DRAINING, set(), False),
    ],
)
def test_the_catalog_says_which_versions_answer(
    server: TestServer, state: State, concerned: set[Pair], *, ready: bool
) -> None:
    server.components.status.update(state, "because", frozenset(concerned))
    (model,) = get(server, "/catalog").json()["models"]
    assert [version["ready"] for version in model["versions"]] == [ready]


def test_a_version_without_workers_is_not_ready(server: TestServer) -> None:
    server.components.status.update(State.DEGRADED, "because")
    server.torchserve.behavior.ready = 0
    (model,) = get(server, "/catalog").json()["models"]
    assert [version["ready"] for version in model["versions"]] == [False]


def test_the_sample_comes_from_the_archive(server: TestServer) -> None:
    sample = get(server, "/catalog/brightness/1.0.0/sample")
    assert (sample.content, sample.headers["content-type"]) == (
        b"sample of brightness 1.0.0",
        "application/octet-stream",
    )


def test_a_missing_card_is_404(server: TestServer) -> None:
    assert get(server, "/catalog/brightness/1.0.0/card").status_code == 404


def test_the_card_is_markdown(server: TestServer, store: Path) -> None:
    write_archive(store, version="1.0.0", members={"CARD.md": "# Brightness"})
    card = get(server, "/catalog/brightness/1.0.0/card")
    assert (card.text, card.headers["content-type"]) == ("# Brightness", "text/markdown; charset=utf-8")


@pytest.mark.parametrize(
    "path", ["brightness/2.0.0/card", "brightness/2.0.0/sample", "other/1.0.0/sample", "brightness/1.0.0/x"]
)
def test_card_and_sample_of_unknown_versions_are_404(server: TestServer, path: str) -> None:
    assert get(server, f"/catalog/{path}").status_code == 404


def test_metrics_report_workers_and_shares(server: TestServer) -> None:
    text = get(server, "/metrics").text
    assert 'radserve_workers_ready{model_name="brightness",model_version="1.0.0"} 1.0' in text
    assert 'radserve_share_ratio{model_name="brightness",model_version="1.0.0"} 1.0' in text
    assert "radserve_ready 0.0" in text
