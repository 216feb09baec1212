"""Proxy that splits traffic for tests; its upstream responds with the requested path."""

import itertools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from radserve.host.run_directory import RunDirectory
from radserve.proxy import traffic_split
from radserve.proxy.access_events import AccessEvent
from radserve.proxy.traffic_split import Routing
from tests import proxy as proxies
from tests.authority import Authority
from tests.fake_supervisor import access_events, await_true
from tests.proxy import Keys, Proxy
from tests.radserve.scripted import Reply, Request, Scripted, scripted
from tests.server import Server

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
    def access_events(self, client: httpx.Client) -> Iterator[list[AccessEvent]]:
        """Receive access events, once the client's worker has noticed the new listener."""
        versions = (f"0.0.{number}" for number in itertools.count())

        def up_to_date() -> bool:
            version = next(versions)
            requested_path(client, f"{PATH}/{version}")
            time.sleep(0.02)
            return bool(seen) and seen[-1].version == version

        with access_events(self.runtime.traffic) as seen:
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


@contextmanager
def running(server: Server, runtime: Path, keys: Keys, authority: Authority, folder: Path) -> Iterator[Split]:
    """Run a proxy with TLS as a separate process, controlled through the run directory only."""
    shared = folder / "runtime"
    shared.mkdir(mode=0o700)
    (shared / "ready").symlink_to(runtime / "ready")
    tls = (authority, authority.issue(folder.name))
    options = ("--rate", "100000")
    with scripted(RunDirectory(shared).inference) as upstream:
        upstream.script = echo
        with proxies.running_proxy(server, shared, keys, folder, tls, *options) as proxy:
            yield Split(proxy, upstream, RunDirectory(shared))


def requested_path(client: httpx.Client, path: str = PATH, who: str | None = None) -> str:
    """Send a request, and return the path that the upstream received."""
    headers = HEADERS if who is None else HEADERS | {"X-Client-Id": who}
    answer = client.post(path, content=BODY, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["length"] == len(BODY)
    return str(answer.json()["path"])


def timed(client: httpx.Client) -> float:
    start = time.monotonic()
    requested_path(client)
    return time.monotonic() - start
