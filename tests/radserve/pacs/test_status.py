"""The endpoint of the loop, over HTTP."""

import socket
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from benchmarks.orthanc import SERIES, STUDY, wait_for
from radserve.errors import PacsError
from radserve.pacs import status
from radserve.pacs.settings import Status
from radserve.schema.cases import Cases
from tests.radserve.pacs.cases import ADULT, FAILURE, OUTAGE, filled


def test_cases_say_what_happened_to_each_image_without_patient_data(tmp_path: Path) -> None:
    with filled(tmp_path) as endpoint:
        reply = httpx.get(f"{endpoint.url}/cases")
        page = Cases.model_validate(reply.json())
        assert [(case.id, case.state, case.reason) for case in page.cases] == [
            (5, "predicting", ""),
            (4, "received", OUTAGE),
            (3, "dead", FAILURE),
            (2, "rejected", ADULT),
            (1, "done", ""),
        ]
        assert page.counts == {"received": 1, "predicting": 1, "storing": 0, "done": 1, "rejected": 1, "dead": 1}
        waiting, dead = page.cases[1:3]
        assert (waiting.attempts, waiting.failures, dead.attempts, dead.failures) == (2, 0, 1, 1)
        assert waiting.next is not None
        assert (waiting.next - waiting.time).total_seconds() > 400
        assert [case.next for case in page.cases if case is not waiting] == [None] * 4
        assert (dead.study, dead.series, dead.instance) == (STUDY, SERIES, f"{SERIES}.3")
        assert (dead.rule, dead.model, dead.version) == ("children", "chest-xray-cnn", "1.0.0")
        assert "Synthetic" not in reply.text
        assert '"S1"' not in reply.text


def test_cases_are_paged_and_filtered(tmp_path: Path) -> None:
    with filled(tmp_path) as endpoint, httpx.Client(base_url=endpoint.url) as client:
        pages, after = [], ""
        while True:
            page = client.get(f"/cases?limit=2{after}").json()
            pages.append([case["id"] for case in page["cases"]])
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        assert pages == [[5, 4], [3, 2], [1]]
        assert [case["id"] for case in client.get("/cases?state=dead").json()["cases"]] == [3]
        for query in ("state=lost", "limit=0", "limit=201", "after=x", f"after={2**63}", "sort=id"):
            reply = client.get(f"/cases?{query}")
            assert (reply.status_code, query.partition("=")[0] in reply.json()["detail"]) == (422, True)


def test_failed_cases_are_sent_again_one_or_all(tmp_path: Path) -> None:
    with filled(tmp_path) as endpoint, httpx.Client(base_url=endpoint.url) as client:
        assert client.post("/cases/3/resend").json() == {"resent": 1}
        assert client.get("/cases?state=received").json()["cases"][1]["attempts"] == 0
        again = client.post("/cases/3/resend")
        assert (again.status_code, again.json()["detail"]) == (
            409,
            "Case 3 has not failed, so it cannot be sent again.",
        )
        assert client.post("/cases/resend").json() == {"resent": 0}
        assert client.post("/cases/none/resend").status_code == 404


def test_metrics_and_health_describe_the_queue(tmp_path: Path) -> None:
    with filled(tmp_path) as endpoint, httpx.Client(base_url=endpoint.url) as client:
        reply = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        assert reply.headers["Content-Type"].startswith("application/openmetrics-text")
        assert reply.text.endswith("# EOF\n")
        assert 'radserve_pacs_jobs{state="dead"} 1.0' in reply.text
        age = next(line for line in reply.text.splitlines() if line.startswith("radserve_pacs_oldest_seconds "))
        assert 0 <= float(age.split()[1]) < 60
        assert client.get("/healthz").json() == {"state": "live", "jobs": 5}
        endpoint.queue.close()
        assert [client.get(path).status_code for path in ("/healthz", "/metrics", "//[")] == [503, 503, 404]


def test_slow_connections_are_limited_in_number_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "_DEADLINE", 3.0)
    with filled(tmp_path) as endpoint, httpx.Client(base_url=endpoint.url) as client, ExitStack() as stack:
        address = ("127.0.0.1", int(endpoint.url.rpartition(":")[2]))
        slow = [stack.enter_context(socket.create_connection(address)) for _ in range(16)]
        for connection in slow:
            connection.sendall(b"GET /healthz HTTP/1.0\r\nX: ")
        assert not _is_live(client)
        wait_for(lambda: _is_live(client), 20)


def _is_live(client: httpx.Client) -> bool:
    with suppress(httpx.HTTPError):
        return client.get("/healthz").status_code == 200
    return False


def test_cases_are_for_holders_of_the_token_and_never_for_other_web_pages(tmp_path: Path) -> None:
    with filled(tmp_path / "token", "the correct token") as endpoint, httpx.Client(base_url=endpoint.url) as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            reply = client.get("/cases", headers=headers)
            assert (reply.status_code, reply.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert reply.headers["Content-Type"] == "application/problem+json"
            assert client.post("/cases/3/resend", headers=headers).status_code == 401
        assert client.get("/cases", headers={"Authorization": "Bearer the correct token"}).status_code == 200
        assert client.get("/metrics").status_code == 200
    with filled(tmp_path / "open") as endpoint, httpx.Client(base_url=endpoint.url) as client:
        for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
            assert client.post("/cases/3/resend", headers=headers).status_code == 403
            assert client.get("/cases", headers=headers).status_code == 403
        assert client.get("/cases").json()["counts"]["dead"] == 1


def test_an_address_in_use_is_an_error(tmp_path: Path) -> None:
    with filled(tmp_path) as endpoint:
        taken = Status(address=endpoint.url.removeprefix("http://"))
        with pytest.raises(PacsError, match="Cannot listen on 127"), status.running(taken, endpoint.queue):
            pass
