"""Traffic split by a real nginx, in front of a server that responds with the requested path."""

import asyncio
import itertools
import json
import math
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx
import pytest

from benchmarks.server import free_ports
from radserve.host.run_directory import RunDirectory, proxy_running
from radserve.proxy import traffic_split
from radserve.proxy.access_events import AccessEvent
from radserve.proxy.configuration import Upstreams
from radserve.proxy.nginx import Nginx
from radserve.proxy.options import ProxyOptions
from radserve.proxy.traffic_split import Routing
from radserve.torchserve.capacity import Capacity
from tests import proxy as proxies
from tests.authority import Authority
from tests.fake_supervisor import await_true, controlled, heard
from tests.proxy import Keys, Proxy, problem
from tests.radserve.scripted import Reply, Request, Scripted, scripted
from tests.server import ROOT, Server

pytestmark = pytest.mark.e2e

NAME = "chest"
OLD, NEW = "1.0.0", "1.1.0"
PATH = f"/predictions/{NAME}"
BODY = bytes(range(256)) * 40
HEADERS = {"Content-Type": "image/png", "Content-Encoding": "identity", "Accept": "application/json"}


@dataclass
class Split:
    """A proxy, its upstream, and the run directory that controls it."""

    proxy: Proxy
    upstream: Scripted
    runtime: RunDirectory
    forgiven: int = 0

    def route(self, new: float, *, shadow: float | None = None, closed: tuple[str, ...] = ()) -> None:
        shadows = {} if shadow is None else {NAME: shadow}
        traffic_split.write(
            Routing({NAME: {NEW: new, OLD: 100 - new}}, shadows, {(NAME, version) for version in closed}), self.runtime
        )

    def clear(self) -> None:
        traffic_split.write(Routing(), self.runtime)

    def complaints(self) -> list[str]:
        """Return nginx's warnings since the last call."""
        lines = [json.loads(line) for line in self.proxy.log.read_text().splitlines()]
        results = [line["message"] for line in lines if line["level"].upper() not in ("INFO", "DEBUG")]
        new, self.forgiven = results[self.forgiven :], len(results)
        return [line for line in new if "access-event socket unavailable" not in line]  # logged once

    @contextmanager
    def heard(self, client: httpx.Client) -> Iterator[list[AccessEvent]]:
        """Receive access events, once the client's worker has noticed the new listener."""
        versions = (f"0.0.{number}" for number in itertools.count())

        def up_to_date() -> bool:
            version = next(versions)
            asked(client, f"{PATH}/{version}")
            time.sleep(0.02)
            return bool(seen) and seen[-1].version == version

        with heard(self.runtime.traffic) as seen:
            await_true(up_to_date)
            seen.clear()
            yield seen


def echo(request: Request) -> Reply:
    """Respond with the requested path; the only query is the request's id, for TorchServe's log."""
    path, _, query = request.path.partition("?")
    if query != f"request_id={request.headers.get('X-Request-Id', '')}":
        return Reply(500, query.encode())
    status = 503 if path.endswith("9.9.9") else 200
    return Reply(status, json.dumps({"path": path, "length": len(request.body)}).encode())


@pytest.fixture(scope="module")
def split(
    server: Server, runtime: Path, keys: Keys, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Split]:
    """Run a proxy with TLS as a separate process, controlled through the run directory only."""
    folder = tmp_path_factory.mktemp("split")
    shared = folder / "runtime"
    shared.mkdir(mode=0o700)
    (shared / "ready").symlink_to(runtime / "ready")
    tls = (authority, authority.issue("split"))
    options = ("--rate", "100000")
    with scripted(RunDirectory(shared).inference) as upstream:
        upstream.script = echo
        with proxies.running_proxy(server, shared, keys, folder, tls, *options) as proxy:
            yield Split(proxy, upstream, RunDirectory(shared))


@pytest.fixture(autouse=True)
def _without_tables(split: Split) -> Iterator[None]:
    """Start and end without tables, and check that nginx logged no warning."""
    split.clear()
    split.upstream.requests.clear()
    split.complaints()
    yield
    split.clear()
    # A copy times out on a busy machine; a prediction would fail, after a minute.
    assert [line for line in split.complaints() if "upstream timed out" not in line] == []


@pytest.fixture
def client(split: Split) -> Iterator[httpx.Client]:
    with split.proxy.client() as http_client:
        yield http_client


def asked(client: httpx.Client, path: str = PATH, who: str | None = None) -> str:
    """Send a request, and return the path that the upstream received."""
    headers = HEADERS if who is None else HEADERS | {"X-Client-Id": who}
    answer = client.post(path, content=BODY, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["length"] == len(BODY)
    return str(answer.json()["path"])


def side(client: httpx.Client, who: str | None = None) -> str:
    return asked(client, who=who).rpartition("/")[2]


def test_torchserve_chooses_the_version_without_a_table(client: httpx.Client, split: Split) -> None:
    traffic_split.write(Routing({"other": {NEW: 50, OLD: 50}}, {"other": 100}), split.runtime)
    assert asked(client) == PATH
    assert asked(client, f"{PATH}/{OLD}") == f"{PATH}/{OLD}"
    assert asked(client, f"/explanations/{NAME}") == f"/explanations/{NAME}"
    request = split.upstream.requests[0]
    assert {name.lower() for name in request.headers} == {
        *("host", "content-length", "content-type", "content-encoding", "accept", "x-request-id")
    }


def test_a_request_without_a_version_gets_that_of_its_bucket(client: httpx.Client, split: Split) -> None:
    split.route(100)
    assert asked(client) == f"{PATH}/{NEW}"
    assert asked(client, f"/explanations/{NAME}") == f"/explanations/{NAME}/{NEW}"
    assert asked(client, f"{PATH}?patient=x") == f"{PATH}/{NEW}"
    assert client.put(PATH, content=BODY).json()["path"] == f"{PATH}/{NEW}"
    split.route(0)
    assert asked(client) == f"{PATH}/{OLD}"


def test_a_version_in_the_path_is_kept(client: httpx.Client, split: Split) -> None:
    split.route(100)
    for version in (OLD, NEW, "7.0"):
        assert asked(client, f"{PATH}/{version}") == f"{PATH}/{version}"
        assert asked(client, f"/explanations/{NAME}/{version}") == f"/explanations/{NAME}/{version}"


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
    assert asked(client) == asked(client, f"{PATH}/{OLD}") == f"{PATH}/{OLD}"
    assert asked(client, f"/predictions/other/{NEW}") == f"/predictions/other/{NEW}"
    traffic_split.write(Routing(closed={(NAME, NEW)}), split.runtime)  # without shares
    problem(client.post(f"{PATH}/{NEW}", content=BODY), 404)
    assert asked(client) == PATH


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


# -- What the supervisor hears


def test_each_request_of_a_split_model_causes_an_access_event(client: httpx.Client, split: Split) -> None:
    split.route(100)
    with split.heard(client) as seen:
        asked(client)
        asked(client, f"{PATH}/{OLD}")
        asked(client, "/predictions/other")
        assert client.post(f"{PATH}/9.9.9", content=BODY).status_code == 503
        problem(client.get(PATH), 405)
        with split.proxy.client(None) as anonymous:
            problem(anonymous.post(PATH, content=BODY), 401)
        await_true(lambda: len(seen) >= 3)
        time.sleep(0.1)
    assert [(item.model, item.version, item.pinned, item.status) for item in seen] == [
        (NAME, NEW, False, 200),
        (NAME, OLD, True, 200),
        (NAME, "9.9.9", True, 503),
    ]
    assert all(item.seconds is not None and 0 <= item.seconds < 1 for item in seen)


def test_a_server_that_dies_causes_an_error_event(client: httpx.Client, split: Split) -> None:
    split.route(100)

    def die(_: Request) -> Reply:
        raise ConnectionError

    with split.heard(client) as seen:
        split.upstream.script = die
        try:
            problem(client.post(PATH, content=BODY), 502)
            await_true(lambda: len(seen) == 1)
        finally:
            split.upstream.script = echo
    assert (seen[0].version, seen[0].status) == (NEW, 502)
    assert len(split.complaints()) == 1


def test_a_missing_listener_is_tolerated_and_a_new_one_gets_events(client: httpx.Client, split: Split) -> None:
    """The fixture checks in the end that nginx logged no warning."""
    split.route(100)
    assert not split.runtime.traffic.exists()
    asked(client)
    for _ in range(2):
        with split.heard(client) as seen:
            asked(client)
            await_true(lambda found=seen: len(found) == 1)  # type: ignore[misc]
        asked(client)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:  # a listener that never reads
        deaf.bind(str(split.runtime.traffic))
        assert median(timed(client) for _ in range(100)) < 0.2
    split.runtime.traffic.unlink()


# -- Copies


def test_a_copy_has_the_body_and_its_headers(client: httpx.Client, split: Split) -> None:
    split.route(0, shadow=100)
    long = bytes(3 << 20)  # longer than nginx's buffer in memory
    with controlled(split.runtime.control) as control:
        for body in (BODY, long, b""):
            sent = client.post(PATH, content=body, headers=HEADERS | {"X-Actor": "me", "X-Key-Name": "me"})
            assert sent.json() == {"path": f"{PATH}/{OLD}", "length": len(body)}
            copy = control.copies(1).pop()
            assert (copy.method, copy.path, copy.query, copy.body) == ("POST", f"/shadow/{NAME}", "", body)
            assert copy.headers["x-request-id"] == sent.headers["x-request-id"]
            assert copy.headers["content-type"] == "image/png"
            assert not {"x-api-key", "authorization", "x-actor", "x-key-name"} & set(copy.headers)
        chunked = client.post(PATH, content=iter([BODY, BODY]), headers=HEADERS)
        assert chunked.json()["length"] == 2 * len(BODY)
        assert control.copies(1).pop().body == BODY + BODY


def test_only_predictions_without_a_version_are_copied(client: httpx.Client, split: Split) -> None:
    split.route(0, shadow=100)
    with controlled(split.runtime.control) as control:
        asked(client, f"{PATH}/{OLD}")
        asked(client, f"/explanations/{NAME}")
        asked(client, "/predictions/other")
        with split.proxy.client(None) as anonymous:
            problem(anonymous.post(PATH, content=BODY), 401)
        asked(client)
        control.copies(1)
        time.sleep(0.1)
        assert len(control.requests) == 1


def test_the_share_of_copies_is_as_configured(client: httpx.Client, split: Split) -> None:
    count, share = 400, 0.25
    split.route(0, shadow=100 * share)
    with controlled(split.runtime.control) as control:
        for _ in range(count):
            asked(client)
        time.sleep(0.2)
        assert abs(len(control.requests) - count * share) < 4 * math.sqrt(count * share * (1 - share))


def test_a_response_does_not_wait_for_its_copy(client: httpx.Client, split: Split) -> None:
    split.route(0)
    asked(client)
    usual = median(timed(client) for _ in range(20))
    split.route(0, shadow=100)
    with controlled(split.runtime.control) as control:
        control.delay = 1
        seconds = []
        for _ in range(5):
            seconds.append(timed(client))
            time.sleep(0.15)  # the next request over the connection waits until the copy is abandoned, for 100 ms
        assert median(seconds) < usual + 0.05
        assert median(timed(client) for _ in range(5)) < 0.5
        assert len(control.copies(10)) == 10
    assert all("upstream timed out" in line for line in split.complaints())


def timed(client: httpx.Client) -> float:
    start = time.monotonic()
    asked(client)
    return time.monotonic() - start


@pytest.mark.parametrize("dead", ["absent", "left behind", "deaf"])
def test_a_lost_copy_does_not_affect_the_client(client: httpx.Client, split: Split, dead: str) -> None:
    split.route(0, shadow=100)
    with socket.socket(socket.AF_UNIX) as opened:
        if dead != "absent":
            opened.bind(str(split.runtime.control))
        if dead == "deaf":
            opened.listen(1)
        for body in (BODY, bytes(3 << 20)):
            start = time.monotonic()
            answers = [client.post(PATH, content=body, headers=HEADERS) for _ in range(5)]
            assert {answer.status_code for answer in answers} == {200}
            assert time.monotonic() - start < 10  # nginx abandons a copy after 100 ms, by default after 60 s
    split.runtime.control.unlink(missing_ok=True)
    assert len(split.complaints()) == 10  # one for each lost copy


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
        heard(runtime.traffic) as seen,
    ):
        upstream.script = echo
        asyncio.run(ask())
        await_true(lambda: len(seen) == 2)
    assert [copy.path for copy in control.requests] == [f"/shadow/{NAME}"]
    assert {(item.model, item.version, item.pinned) for item in seen} == {(NAME, NEW, False)}


# -- Detection of a proxy


def test_the_supervisor_detects_a_running_proxy(split: Split, tmp_path: Path) -> None:
    assert proxy_running(split.runtime)
    assert not proxy_running(RunDirectory(tmp_path))


def test_a_second_proxy_in_the_same_run_directory_is_rejected(
    server: Server, split: Split, keys: Keys, tmp_path: Path
) -> None:
    with (
        pytest.raises(AssertionError, match="in use by another proxy"),
        proxies.running_proxy(server, split.runtime.folder, keys, tmp_path, None),
    ):
        pass
    assert proxy_running(split.runtime)
