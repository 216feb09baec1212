"""Tests of radserve.server.supervisor, with a fake TorchServe as a child process and a real nginx."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from handlers import recipe
from radserve.auth import key_file
from radserve.auth.api_keys import Role
from radserve.build.model_store import Entry
from radserve.errors import ServeError
from radserve.host.run_directory import RunDirectory
from radserve.proxy.options import ProxyOptions
from radserve.server import supervisor
from radserve.server.options import ServerOptions
from radserve.server.status import Exit
from radserve.torchserve import launch
from radserve.torchserve.verified_models import select
from radserve.versions.stored_state import StateFolder
from tests.authority import Authority
from tests.conftest import ROOT
from tests.radserve import fake_torchserve
from tests.radserve.minimal_archive import write_archive
from tests.server import free_ports


@pytest.fixture(autouse=True)
def _fake_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the fake instead of Java."""
    monkeypatch.setattr(
        launch, "command", lambda run_directory, *_: fake_torchserve.command(run_directory.configuration)
    )


def serve(options: ServerOptions, steps: Callable[[str], Awaitable[None]]) -> Exit:
    """Serve, run `steps` with the announcement once the server is ready, and return the exit code."""

    async def main() -> Exit:
        announced: asyncio.Queue[str] = asyncio.Queue()
        server = asyncio.create_task(supervisor.serve(options, announced.put_nowait))
        announcement = asyncio.create_task(announced.get())
        await asyncio.wait({server, announcement}, return_when=asyncio.FIRST_COMPLETED, timeout=30)
        if announcement.done():
            await steps(announcement.result())
        announcement.cancel()
        return await asyncio.wait_for(server, 30)

    return asyncio.run(main())


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


async def get(url: str, path: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(verify=False) as client:
        return await client.get(f"{url}{path}", headers=headers)


_OTHERS: set[psutil.Process] = set()


@pytest.fixture(autouse=True)
def _servers_of_other_tests() -> None:
    """Note the processes of session-wide fixtures, which are children of this process as well."""
    _OTHERS.clear()
    _OTHERS.update(psutil.Process().children(recursive=True))


def children() -> list[psutil.Process]:
    """Return the processes that the supervisor under test has started."""
    return [child for child in psutil.Process().children(recursive=True) if child not in _OTHERS]


def torchserve() -> psutil.Process:
    (process,) = (child for child in children() if "config.properties" in child.cmdline()[-1])
    return process


def url(options: ServerOptions) -> str:
    assert options.proxy is not None
    return options.proxy.url


def with_proxy(options: ServerOptions, tmp_path: Path, **changes: object) -> ServerOptions:
    port, management_port, metrics_port = free_ports(3)
    proxy = ProxyOptions(
        "127.0.0.1", port, "127.0.0.1", management_port, metrics_port, access_log=tmp_path / "access.log"
    )
    return replace(options, proxy=replace(proxy, **changes), keys=str(tmp_path / "keys.json"))  # type: ignore[arg-type]


def test_the_start_message_names_the_models_that_compare_no_image() -> None:
    recipes = [recipe.load(ROOT / "archives" / name / "archive.yaml") for name in ("chest-xray-cnn", "cifar10-lenet")]
    assert supervisor.comparison_lines(recipes, "strict") == [
        "  images unlike the training images: rejected (--domain strict)",
        "  not compared, because they have no detector: cifar10-lenet",
    ]
    assert len(supervisor.comparison_lines(recipes[:1], "warn")) == 1
    (line,) = supervisor.comparison_lines(recipes[1:], "strict")
    assert "no model has a detector" in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_ready_server(options: ServerOptions, number: signal.Signals) -> None:
    health = f"http://127.0.0.1:{options.health_port}"

    async def steps(announcement: str) -> None:
        assert announcement.splitlines()[0] == f"RadServe is ready at {url(options)}"
        assert (await get(health, "/ready")).json() == {
            "state": "ready",
            "detail": "Every worker is ready and every model answered its sample.",
        }
        assert {child.name() for child in children() if child.ppid() == os.getpid()} >= {"nginx"}
        os.kill(os.getpid(), number)

    assert serve(options, steps) is Exit.STOPPED
    assert children() == []
    assert options.run_directory is not None
    assert not RunDirectory(options.run_directory).control.exists()


def test_a_signal_during_the_start_stops_the_server(options: ServerOptions) -> None:
    write_archive(options.store, version="1.0.0", members={"sample.json": '{"label": "dark"}'})

    async def main() -> Exit:
        server = asyncio.create_task(supervisor.serve(options, lambda _: pytest.fail("was ready")))
        async with asyncio.timeout(20):
            while "expected" not in await detail():  # noqa: ASYNC110 - polls an HTTP endpoint
                await asyncio.sleep(0.05)
        terminate()
        return await asyncio.wait_for(server, 20)

    async def detail() -> str:
        with contextlib.suppress(httpx.TransportError):
            return str((await get(f"http://127.0.0.1:{options.health_port}", "/ready")).json()["detail"])
        return ""

    (model,) = select(options.store, ["brightness/1.0.0"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "select", lambda *_: [replace(model, expected={"label": "bright"})])
        assert asyncio.run(main()) is Exit.STOPPED
    assert children() == []


def test_a_signal_while_archives_are_unpacked_starts_no_torchserve(
    options: ServerOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_archive(options.store, version="2.0.0")
    unpacked: list[Entry] = []

    def unpack(entry: Entry, *_: object) -> None:
        unpacked.append(entry)
        terminate()
        time.sleep(0.1)  # the event loop handles the signal

    monkeypatch.setattr(supervisor, "unpack", unpack)
    monkeypatch.setattr(supervisor, "start_engine", None)
    options = replace(options, models=("brightness/1.0.0", "brightness/2.0.0"))
    assert asyncio.run(supervisor.serve(options, print)) is Exit.STOPPED
    assert [entry.version for entry in unpacked] == ["1.0.0"]


def test_a_server_that_is_not_ready_in_time_exits(
    options: ServerOptions, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(launch, "command", lambda *_: ["sleep", "60"])

    async def steps(_: str) -> None:
        pytest.fail("was ready")

    assert serve(replace(options, startup_timeout=0.5), steps) is Exit.NOT_READY
    assert "not ready after 0.5 s: TorchServe does not respond yet (ConnectError)." in caplog.text
    assert children() == []


def test_a_torchserve_that_dies_at_the_start_ends_the_server(
    options: ServerOptions, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(launch, "command", lambda *_: ["false"])

    async def steps(_: str) -> None:
        pytest.fail("was ready")

    assert serve(options, steps) is Exit.TORCHSERVE_DIED
    assert "TorchServe exited with code 1; shutting down" in caplog.text


def test_a_saved_deployment_takes_precedence_over_the_options(
    options: ServerOptions, caplog: pytest.LogCaptureFixture
) -> None:
    control = httpx.AsyncHTTPTransport(uds=f"{options.run_directory}/control.sock")

    async def deploy(_: str) -> None:
        async with httpx.AsyncClient(transport=control, base_url="http://server", timeout=30) as client:
            response = await client.post("/versions/brightness/2.0.0", json={"workers": 2})
            assert response.status_code < 300, response.text
            response = await client.post("/versions/brightness/2.0.0/promote", json={})
            assert response.status_code < 300, response.text
        terminate()

    async def catalog(_: str) -> None:
        document = (await get(f"http://127.0.0.1:{options.health_port}", "/catalog")).json()
        versions = [(item["version"], item["share"]) for item in document["models"][0]["versions"]]
        assert versions == [("2.0.0", 100.0), ("1.0.0", 0.0)]
        metrics = (await get(f"http://127.0.0.1:{options.health_port}", "/metrics")).text
        assert 'radserve_workers_ready{model_name="brightness",model_version="2.0.0"} 2.0' in metrics
        terminate()

    assert serve(options, deploy) is Exit.STOPPED
    assert StateFolder(options.state_folder).state.deployment is not None
    assert serve(replace(options, models=["other"]), catalog) is Exit.STOPPED
    assert "--models is ignored (other): the deployment saved in" in caplog.text
    caplog.clear()
    assert serve(replace(options, models=["brightness"]), catalog) is Exit.STOPPED
    assert "--models" not in caplog.text


def test_a_published_server_checks_keys(options: ServerOptions, tmp_path: Path, authority: Authority) -> None:
    pair = authority.issue("supervisor")
    options = with_proxy(options, tmp_path, certificate=pair.certificate, certificate_key=pair.key)
    key = key_file.create(tmp_path / "keys.json", "test", [Role.PREDICT])
    address = url(options)

    async def steps(announcement: str) -> None:
        assert announcement.splitlines()[0] == f"RadServe is ready at {address}"
        assert (await get(address, "/catalog")).status_code == 401
        assert (await get(address, "/catalog", authorization=f"Bearer {key}")).status_code == 200
        assert (
            "radserve_certificate_not_after_seconds"
            in (await get(f"http://127.0.0.1:{options.health_port}", "/metrics")).text
        )
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.5)
        assert (await get(address, "/ready")).status_code == 200
        terminate()

    assert serve(options, steps) is Exit.STOPPED
    assert children() == []


def kill_nginx() -> bool:
    """Kill nginx's master; return whether there was one with workers, which `nginx -t` does not have."""
    own = psutil.Process().children()
    killed = False
    for child in children():
        with contextlib.suppress(psutil.NoSuchProcess):  # a short-lived child may end meanwhile
            if child in own and child.name() == "nginx" and child.children():
                child.kill()
                killed = True
    return killed


def test_an_nginx_that_is_killed_is_restarted(
    options: ServerOptions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = with_proxy(options, tmp_path, plain_http=True)
    key_file.create(tmp_path / "keys.json", "test", [Role.PREDICT])
    assert options.proxy is not None
    url = options.proxy.url

    async def steps(_: str) -> None:
        for kills in (1, 2):
            async with asyncio.timeout(60):  # other tests share the cores
                while not kill_nginx():  # noqa: ASYNC110 - workers of the one before serve until it has started
                    await asyncio.sleep(0.01)
                while caplog.text.count("nginx exited with code 137; restarting it") < kills:  # noqa: ASYNC110 - a log
                    await asyncio.sleep(0.01)
                while not await is_ready(url):  # noqa: ASYNC110 - polls an HTTP endpoint
                    await asyncio.sleep(0.01)
        metrics = (await get(f"http://127.0.0.1:{options.health_port}", "/metrics")).text
        assert "radserve_proxy_restarts_total" in metrics
        terminate()

    assert serve(options, steps) is Exit.STOPPED
    assert children() == []


async def is_ready(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return (await get(url, "/ready")).status_code == 200
    return False


def test_an_nginx_that_keeps_dying_ends_the_server(
    options: ServerOptions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = with_proxy(options, tmp_path, plain_http=True)
    key_file.create(tmp_path / "keys.json", "test", [Role.PREDICT])

    async def steps(_: str) -> None:
        async with asyncio.timeout(20):
            while "nginx keeps exiting" not in caplog.text:
                kill_nginx()
                await asyncio.sleep(0.02)

    assert serve(options, steps) is Exit.PROXY_DIED
    assert caplog.text.count("restarting it") == 5
    assert "nginx keeps exiting, with code 137; shutting down" in caplog.text
    assert children() == []


def test_an_invalid_certificate_prevents_the_start(options: ServerOptions, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    options = with_proxy(options, tmp_path, certificate=missing, certificate_key=missing)
    key_file.create(tmp_path / "keys.json", "test", [Role.PREDICT])

    async def steps(_: str) -> None:
        pytest.fail("was ready")

    with pytest.raises(ServeError, match=r"missing\.pem: No such file"):
        serve(options, steps)
    assert children() == []
