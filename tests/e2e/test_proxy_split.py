"""Traffic split by a real nginx, in front of a server that responds with the requested path."""

import asyncio
import json
import math
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.server import free_ports
from radserve.host.run_directory import RunDirectory
from radserve.proxy import traffic_split
from radserve.proxy.configuration import Upstreams
from radserve.proxy.nginx import Nginx
from radserve.proxy.options import ProxyOptions
from radserve.proxy.traffic_split import Routing
from radserve.torchserve.capacity import Capacity
from tests.e2e.split_proxy import BODY, NAME, NEW, OLD, PATH, Split, echo, requested_path
from tests.fake_supervisor import access_events, await_true, controlled
from tests.proxy import problem
from tests.radserve.scripted import scripted
from tests.server import ROOT

pytestmark = pytest.mark.e2e


@pytest.fixture
def client(split: Split) -> Iterator[httpx.Client]:
    with split.proxy.client() as http_client:
        yield http_client


def side(client: httpx.Client, who: str | None = None) -> str:
    return requested_path(client, who=who).rpartition("/")[2]


def test_torchserve_chooses_the_version_without_a_table(client: httpx.Client, split: Split) -> None:
    traffic_split.write(Routing({"other": {NEW: 50, OLD: 50}}, {"other": 100}), split.runtime)
    assert requested_path(client) == PATH
    assert requested_path(client, f"{PATH}/{OLD}") == f"{PATH}/{OLD}"
    assert requested_path(client, f"/explanations/{NAME}") == f"/explanations/{NAME}"
    request = split.upstream.requests[0]
    assert {name.lower() for name in request.headers} == {
        *("host", "content-length", "content-type", "content-encoding", "accept", "x-request-id")
    }


def test_a_request_without_a_version_gets_that_of_its_bucket(client: httpx.Client, split: Split) -> None:
    split.route(100)
    assert requested_path(client) == f"{PATH}/{NEW}"
    assert requested_path(client, f"/explanations/{NAME}") == f"/explanations/{NAME}/{NEW}"
    assert requested_path(client, f"{PATH}?patient=x") == f"{PATH}/{NEW}"
    assert client.put(PATH, content=BODY).json()["path"] == f"{PATH}/{NEW}"
    split.route(0)
    assert requested_path(client) == f"{PATH}/{OLD}"


def test_a_version_in_the_path_is_kept(client: httpx.Client, split: Split) -> None:
    split.route(100)
    for version in (OLD, NEW, "7.0"):
        assert requested_path(client, f"{PATH}/{version}") == f"{PATH}/{version}"
        assert requested_path(client, f"/explanations/{NAME}/{version}") == f"/explanations/{NAME}/{version}"


def test_a_split_does_not_change_rejections(client: httpx.Client, split: Split) -> None:
    split.route(50, shadow=100)
    assert problem(client.get(PATH), 405) == "This path accepts POST, PUT only."
    assert client.get(PATH).headers["allow"] == "POST, PUT"
    problem(client.post(PATH, content=b"a=b", headers={"Content-Type": "application/x-www-form-urlencoded"}), 415)
    problem(client.post(f"{PATH}/", content=BODY), 404)
    with split.proxy.client(None) as anonymous:
        problem(anonymous.post(PATH, content=BODY), 401)
    with split.proxy.client("read") as reader:
        assert "role 'predict'" in problem(reader.post(PATH, content=BODY), 403)
    assert split.upstream.requests == []


def test_shares_are_kept_within_statistical_bounds(client: httpx.Client, split: Split) -> None:
    count, share = 1500, 0.3
    split.route(100 * share)
    drawn = Counter(side(client) for _ in range(count))
    assert set(drawn) == {OLD, NEW}
    assert abs(drawn[NEW] - count * share) < 4 * math.sqrt(count * share * (1 - share))


def test_a_client_keeps_its_version_as_the_share_grows(client: httpx.Client, split: Split) -> None:
    who = [f"ward-{number}@x" for number in range(60)]
    before: set[str] = set()
    for share in (10, 30, 60, 100):
        split.route(share)
        sides = {name: {side(client, name) for _ in range(2)} for name in who}
        assert all(len(result) == 1 for result in sides.values())
        now = {name for name, result in sides.items() if result == {NEW}}
        assert before <= now
        before = now
    assert before == set(who)


def test_an_invalid_client_id_is_assigned_at_random(client: httpx.Client, split: Split) -> None:
    split.route(50)
    for odd in ("", "x y", "x" * 129):
        assert {side(client, odd) for _ in range(40)} == {OLD, NEW}, odd


def test_a_closed_version_is_404(client: httpx.Client, split: Split) -> None:
    split.route(0, closed=(NEW,))
    for path in (f"{PATH}/{NEW}", f"/explanations/{NAME}/{NEW}"):
        response = problem(client.post(path, content=BODY), 404)
        assert response.startswith(f"Version {NEW} of {NAME} is unavailable")
        with split.proxy.client(None) as anonymous:  # learns nothing about versions
            problem(anonymous.post(path, content=BODY), 401)
    assert "Unknown path" in problem(client.post("/nothing", content=BODY), 404)
    assert requested_path(client) == requested_path(client, f"{PATH}/{OLD}") == f"{PATH}/{OLD}"
    assert requested_path(client, f"/predictions/other/{NEW}") == f"/predictions/other/{NEW}"
    traffic_split.write(Routing(closed={(NAME, NEW)}), split.runtime)  # without shares
    problem(client.post(f"{PATH}/{NEW}", content=BODY), 404)
    assert requested_path(client) == PATH


CHANGES = """
import sys, time
from pathlib import Path
from radserve.host.run_directory import RunDirectory
from radserve.proxy.traffic_split import Routing, write
for number in range(40):
    new = (5, 25, 50, 100, 0)[number % 5]
    write(Routing({"chest": {"1.1.0": new, "1.0.0": 100 - new}}), RunDirectory(Path(sys.argv[1])))
    time.sleep(0.1)
"""


def test_no_request_is_lost_while_shares_change(split: Split) -> None:
    """Sixteen clients keep their connections while another process changes the shares."""
    stop, result, ends = threading.Event(), Counter[str](), Counter[str]()
    lock = threading.Lock()

    def ask() -> None:
        with split.proxy.client() as client:
            while not stop.is_set():
                answer = client.post(PATH, content=b"x")
                with lock:
                    result[str(answer.json().get("path", answer.text))] += 1
            with lock:
                ends["without an error"] += 1

    split.route(0)
    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    done = subprocess.run([sys.executable, "-c", CHANGES, split.runtime.folder], cwd=ROOT, check=False)
    stop.set()
    for thread in threads:
        thread.join()
    assert done.returncode == 0
    assert ends["without an error"] == 16
    assert set(result) == {f"{PATH}/{OLD}", f"{PATH}/{NEW}"}
    assert result.total() > 500
    assert result.total() == len(split.upstream.requests)


def test_http_2_is_split_too(split: Split) -> None:
    split.route(100, shadow=100)
    with controlled(split.runtime.control) as control:
        command = ["curl", "--silent", "--http2", "--write-out", " %{http_version}", "--cacert", str(split.proxy.ca)]
        command += ["--header", f"X-API-Key: {split.proxy.keys.texts['predict']}", "--data-binary", "@-"]
        command += ["--header", "Content-Type: image/png", split.proxy.url + PATH]
        done = subprocess.run([*command, command[-1]], input=BODY, capture_output=True, check=True)
        control.copies(1)
    first, second = json.loads(b"[" + done.stdout.replace(b"} 2", b"},").rstrip(b",") + b"]")
    assert first["path"] == second["path"] == f"{PATH}/{NEW}"


def test_invocations_of_sagemaker_are_split_too(tmp_path: Path) -> None:
    runtime = RunDirectory(tmp_path)
    runtime.ready.touch()
    (port,) = free_ports(1)
    options = ProxyOptions("127.0.0.1", port, "127.0.0.1", 1, 2, sagemaker=NAME, access_log=tmp_path / "access.log")
    traffic_split.write(Routing({NAME: {NEW: 100}}, {NAME: 100}), runtime)

    async def ask() -> None:
        nginx = Nginx(options, Upstreams(1, runtime, 100000, 60, Capacity(1 << 30, 128, 8)))
        await nginx.start()
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                explain = {"X-Amzn-SageMaker-Custom-Attributes": "explanations"}
                first = await client.post("/invocations", content=BODY)
                second = await client.post("/invocations", content=BODY, headers=explain)
                assert first.json()["path"] == f"{PATH}/{NEW}"
                assert second.json()["path"] == f"/explanations/{NAME}/{NEW}"
                assert (await client.post("/shadow", content=BODY)).status_code == 404
        finally:
            await nginx.stop()

    with (
        scripted(runtime.inference) as upstream,
        controlled(runtime.control) as control,
        access_events(runtime.traffic) as seen,
    ):
        upstream.script = echo
        asyncio.run(ask())
        await_true(lambda: len(seen) == 2)
    assert [copy.path for copy in control.requests] == [f"/shadow/{NAME}"]
    assert {(item.model, item.version, item.pinned) for item in seen} == {(NAME, NEW, False)}
