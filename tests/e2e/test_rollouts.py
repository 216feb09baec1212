"""Tests of rollouts with a real TorchServe and nginx, under load."""

import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from radserve.build import model_store
from tests.e2e.test_proxy_life import published
from tests.proxy import Keys
from tests.repack import FILM, NAME
from tests.server import Server, running
from tests.versions import PATH, add, asking, copied, dying, raising, shifted, slow, wrong

pytestmark = pytest.mark.e2e

GOOD, WRONG, DYING, SLOW, RAISING, SHIFTED = "1.1.0", "2.0.0", "2.1.0", "2.2.0", "2.3.0", "2.4.0"


@dataclass(frozen=True)
class Home:
    """A server behind a proxy with one model, and a model store with further versions."""

    server: Server
    runtime: Path
    state: Path
    headers: dict[str, str]

    def control(self) -> httpx.Client:
        """Return a client of the control API."""
        transport = httpx.HTTPTransport(uds=str(self.runtime / "control.sock"))
        return httpx.Client(transport=transport, base_url="http://radserve", timeout=120, headers={"X-Actor": "test"})

    def roll_out(self, version: str, **plan: Any) -> dict[str, Any]:
        """Roll out a version, and wait for the end."""
        with self.control() as control:
            started = control.post(f"/rollouts/{NAME}", json={"version": version} | plan)
            assert started.status_code == 202, started.text
            return self.await_rollout(lambda status: bool(status["done"]))

    def await_rollout(self, enough: Any) -> dict[str, Any]:
        """Wait until a rollout satisfies a condition."""
        deadline = time.monotonic() + 90
        with self.control() as control:
            while not enough(document := dict(control.get(f"/rollouts/{NAME}").json())):
                assert time.monotonic() < deadline, document
                time.sleep(0.05)
        return document

    def versions(self) -> dict[str, dict[str, Any]]:
        """Return the registered versions."""
        with self.control() as control:
            return {item["version"]: item for item in control.get(f"/versions/{NAME}").json()["versions"]}

    def answered_by(self) -> str:
        """Return the version that answers a request."""
        response = httpx.post(self.server.url + PATH, content=FILM, headers=self.headers, timeout=60)
        return str(response.json()["model"]["version"])

    def listed(self) -> dict[str, float]:
        """Return the versions of the public catalog, with their shares in percent."""
        document = httpx.get(f"{self.server.url}/catalog", headers=self.headers, timeout=60).json()
        return {item["version"]: item["share"] for model in document["models"] for item in model["versions"]}

    def await_gone(self, version: str) -> None:
        """Wait until a version is unregistered."""
        deadline = time.monotonic() + 60
        while version in self.versions():
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def audit(self) -> list[dict[str, Any]]:
        """Read the audit log."""
        return [json.loads(line) for line in (self.state / "audit.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def home(store: Path, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("home")
    own = copied(store, folder / "store")
    changes = {WRONG: wrong, DYING: dying, SLOW: slow, RAISING: raising, SHIFTED: shifted}
    for version, change in changes.items():
        add(own, version, change)
    add(own, GOOD)
    runtime, state = folder / "runtime", folder / "state"
    options = published("--keys", str(keys.file), "--access-log", str(folder / "access.log"), "--rate", "100000")
    options += ("--runtime", str(runtime), "--state", str(state), "--models", f"{NAME}/1.0.0")
    options += ("--workers", "1", "--settle", "1")
    with running(own, folder / "log", *options) as server:
        yield Home(server, runtime, state, {"X-API-Key": keys.texts["predict"]})


def test_a_rollout_a_rollback_and_a_promotion_lose_no_request(home: Home) -> None:
    started = {"steps": [20, 100], "step_seconds": 1, "min_requests": 40, "max_slowdown": None}
    with asking(home.server.url, home.headers, clients=12) as clients, home.control() as control:
        time.sleep(1)
        assert set(clients.versions) == {"1.0.0"}
        assert (
            control.post(f"/rollouts/{NAME}", json={"version": GOOD, "reason": "ticket 7"} | started).status_code == 202
        )
        home.await_rollout(lambda status: status["share"] == 20)
        assert home.listed() == {"1.0.0": 80, GOOD: 20}
        time.sleep(0.5)  # requests from before the step are answered
        before = Counter(clients.versions)
        seen = Counter[str]()
        while control.get(f"/rollouts/{NAME}").json()["share"] == 20:
            seen = Counter(clients.versions) - before
            time.sleep(0.05)
        last = home.await_rollout(lambda status: status["done"])
        assert last["phase"] == "promoted", last
        time.sleep(0.5)
        assert control.post(f"/versions/{NAME}/rollback", json={"reason": "try"}).status_code == 200
        time.sleep(0.5)
        assert home.answered_by() == "1.0.0"
        assert control.post(f"/versions/{NAME}/{GOOD}/promote", json={}).status_code == 200
        time.sleep(0.5)
        assert home.answered_by() == GOOD
        assert control.delete(f"/versions/{NAME}/1.0.0").status_code == 204
        time.sleep(1)
    assert clients.failures == []
    total, share = seen.total(), 0.2
    assert total > 100
    assert abs(seen[GOOD] - share * total) < 4 * math.sqrt(total * share * (1 - share)) + 16, seen
    assert set(home.versions()) == {GOOD}
    pinned = httpx.post(f"{home.server.url}{PATH}/1.0.0", content=FILM, headers=home.headers)
    assert pinned.status_code == 404
    actions = [(entry["action"], entry["version"], entry["actor"]) for entry in home.audit()]
    assert ("rollback", "1.0.0", "user test") in actions
    assert actions[-1] == ("unregister", "1.0.0", "user test")
    assert home.audit()[0]["reason"] == "ticket 7"
    assert home.audit()[-1]["sha256"] is not None


@pytest.mark.parametrize(
    ("version", "plan", "reason"),
    [
        (WRONG, {}, "answers its sample with normal 0.0033, but 0.9967 was stored"),
        (DYING, {}, "does not start"),
        (SLOW, {}, "more than 2 times the"),
        (RAISING, {}, "requests failed with 5xx, more than 1.00%"),
        (SHIFTED, {"max_shift": 0.25, "max_slowdown": None}, "more than 0.25: normal 100% instead of 0%"),
    ],
)
def test_a_faulty_version_is_rolled_back_while_the_stable_one_serves(
    home: Home, version: str, plan: dict[str, Any], reason: str
) -> None:
    before = home.answered_by()
    with asking(home.server.url, home.headers) as clients:
        last = home.roll_out(version, steps=[40, 100], step_seconds=30, **plan)
        assert last["phase"] == "rolled_back"
        assert last["succeeded"] is False
        assert reason in last["detail"]
        after = time.monotonic()
        time.sleep(2.5)
        assert clients.since(after) == {before}
    # Only requests to the faulty version may have failed.
    assert all(version == RAISING and failure.startswith("500") for failure in clients.failures), clients.failures
    home.await_gone(version)
    entry = [entry for entry in home.audit() if entry["version"] == version][-1]
    assert f"rolled back; {before} receives all requests" in entry["detail"]
    assert reason in entry["detail"]
    assert reason.replace('"', '\\"') in home.server.log.read_text()
    assert httpx.get(f"{home.server.health_url}/ready").status_code == 200


def test_a_pause_of_torchserve_does_not_roll_back(home: Home) -> None:
    add(home.server.store, "1.1.1")
    before = home.answered_by()
    (java,) = home.server.java()
    with asking(home.server.url, home.headers) as clients, home.control() as control:
        plan = {"version": "1.1.1", "steps": [40, 100], "step_seconds": 7, "min_requests": 20, "max_slowdown": None}
        assert control.post(f"/rollouts/{NAME}", json=plan).status_code == 202
        home.await_rollout(lambda status: status["share"] == 40)
        java.suspend()
        try:
            time.sleep(6.5)
        finally:
            java.resume()
        last = home.await_rollout(lambda status: status["done"])
        assert last["phase"] == "promoted", last
        assert control.post(f"/versions/{NAME}/{before}/promote", json={}).status_code == 200
        assert control.delete(f"/versions/{NAME}/1.1.1").status_code == 204
    assert clients.failures == []


@pytest.mark.parametrize("abort", [False, True])
def test_a_full_disk_does_not_keep_a_faulty_version_in_service(home: Home, *, abort: bool) -> None:
    supervisor = psutil.Process(home.server.process.pid)
    limits = supervisor.rlimit(psutil.RLIMIT_FSIZE)
    before = home.answered_by()

    def problems() -> list[str]:
        return list(httpx.get(f"{home.server.health_url}/ready").json().get("problems", []))

    with asking(home.server.url, home.headers) as clients, home.control() as control:
        plan = {"version": RAISING, "steps": [40, 100], "step_seconds": 60, "min_requests": 100000 if abort else 50}
        assert control.post(f"/rollouts/{NAME}", json=plan | {"max_error": 0.05}).status_code == 202
        home.await_rollout(lambda status: status["share"] == 40)
        supervisor.rlimit(psutil.RLIMIT_FSIZE, (0, limits[1]))  # nothing can be written, as on a full disk
        try:
            if abort:
                assert control.delete(f"/rollouts/{NAME}").status_code == 200
            last = home.await_rollout(lambda status: status["done"])
            after = time.monotonic()
            assert last["phase"] == "rolled_back"
            time.sleep(2.5)
            assert "not stored" in problems()[0]
            rejected = control.patch(f"/versions/{NAME}/{before}", json={"workers": 2})
            assert (rejected.status_code, "not writable" in rejected.text) == (500, True)
        finally:
            supervisor.rlimit(psutil.RLIMIT_FSIZE, limits)
        assert clients.since(after + 0.5) == {before}
    assert all(failure.startswith("500") for failure in clients.failures), clients.failures
    deadline = time.monotonic() + 10
    while problems():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert home.audit()[-1]["detail"].startswith(f"{NAME} {RAISING}: rolled back; {before} receives all requests")
    assert json.loads((home.state / "state.json").read_text())["rollouts"] == {}
    with home.control() as control:
        (quarantined,) = [
            item for item in control.get(f"/versions/{NAME}").json()["quarantined"] if item["version"] == RAISING
        ]
    entry = model_store.read(home.server.store).find(NAME, RAISING)
    assert entry is not None
    assert quarantined["reason"] == entry.quarantine
    home.await_gone(RAISING)


def test_a_shadow_compares_copies_and_clients_never_get_its_responses(home: Home) -> None:
    add(home.server.store, "1.2.0")
    listed: list[dict[str, float]] = []
    with asking(home.server.url, home.headers) as clients, home.control() as control:
        plan = {"version": "1.2.0", "shadow": 50, "step_seconds": 2, "min_requests": 20}
        assert control.post(f"/rollouts/{NAME}", json=plan).status_code == 202

        def ended(status: dict[str, Any]) -> bool:
            if not status["done"]:
                listed.append(home.listed())
            return bool(status["done"])

        last = home.await_rollout(ended)
    # The catalog does not list a candidate. The last look may fall between its declaration, without a share, and the
    # end of the rollout.
    assert len(listed) > 1
    assert [line for line in listed[:-1] if "1.2.0" in line] == []
    assert listed[-1].get("1.2.0", 0) == 0
    assert last["phase"] == "shadowed", last
    report = last["shadow"]
    assert report["compared"] >= 20
    assert report["agreeing"] == report["compared"]
    assert report["failed"] == 0
    assert report["largest_difference"] < 1e-6
    assert report["images"] == {"label": report["compared"], "probability": report["compared"]}
    assert set(report["shifts"].values()) <= {0}
    assert 0 < report["candidate"]["p50"] < 5
    assert set(clients.versions) == {GOOD}
    assert clients.failures == []
    assert home.versions()["1.2.0"]["share"] == 0
    with home.control() as control:
        assert control.delete(f"/versions/{NAME}/1.2.0").status_code == 204


def test_a_client_stays_on_its_version(home: Home) -> None:
    with home.control() as control:
        want = {"models": {NAME: {"versions": {GOOD: {"share": 50}, "1.0.0": {"share": 50}}}}}
        assert [item["action"] for item in control.put("/deployment", json=want).json()["changes"]] == [
            "register",
            "share",
            "share",
        ]
        assert control.put("/deployment", json=want).json() == {"changes": []}
        assert control.post("/deployment/diff", json=want).json() == {"changes": []}
        with httpx.Client(base_url=home.server.url, headers=home.headers, timeout=60) as client:

            def version(who: str, path: str = PATH) -> str:
                response = client.post(path, content=FILM, headers={"X-Client-Id": who})
                return str(response.json()["model"]["version"])

            sides = {f"ward-{number}": {version(f"ward-{number}") for _ in range(3)} for number in range(24)}
            assert all(len(side) == 1 for side in sides.values())
            assert len(set.union(*sides.values())) == 2
            assert {version("ward-1", f"{PATH}/1.0.0"), version("ward-1", f"{PATH}/{GOOD}")} == {"1.0.0", GOOD}
        back: dict[str, Any] = {"models": {NAME: {"versions": {GOOD: {}}}}}
        assert len(control.put("/deployment", json=back).json()["changes"]) == 2
    assert home.answered_by() == GOOD


def test_the_audit_log_is_unbroken(home: Home) -> None:
    with home.control() as control:
        verified = control.get("/audit/verification").json()
        assert verified["problem"] is None
        assert control.get("/audit/verification", params={"head": verified["head"]}).json() == verified
        assert control.get("/audit/verification", params={"head": "ab" * 32}).json()["problem"] is not None
    metrics = httpx.get(f"{home.server.health_url}/metrics").text
    assert f'radserve_audit_head_info{{sha256="{verified["head"]}"}} 1.0' in metrics
    assert oct((home.runtime / "control.sock").stat().st_mode & 0o777) == "0o600"
