"""Tests of radserve.versions.control_api over HTTP against a fake TorchServe."""

from typing import Any

import pytest

from tests.radserve.versions.conftest import NAME, Service

pytestmark = pytest.mark.anyio

VERSION = f"/versions/{NAME}/2.0.0"
SPLIT = {"models": {NAME: {"versions": {"1.0.0": {"share": 60}, "2.0.0": {"share": 40}}}}}


async def request(
    service: Service, method: str, path: str, status: int = 200, body: Any = None, **headers: str
) -> dict[str, Any]:
    """Send a request, check the status, and return the document."""
    options = {} if body is None else {"json": body}
    response = await service.client.request(method, path, headers=headers, **options)
    assert response.status_code == status, response.text
    if status >= 400:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == status
    return dict(response.json()) if response.content else {}


async def test_a_version_is_registered_scaled_promoted_rolled_back_and_unregistered(service: Service) -> None:
    registered = await request(service, "POST", VERSION, 201, {"workers": 2, "reason": "new"})
    assert (registered["version"], registered["workers"]) == ("2.0.0", {"wanted": 2, "ready": 2})
    scaled = await request(service, "PATCH", VERSION, 200, {"workers": 1})
    assert scaled["workers"] == {"wanted": 1, "ready": 1}
    promoted = await request(service, "POST", f"{VERSION}/promote", 200, {})
    assert {item["version"]: item["share"] for item in promoted["versions"]} == {"1.0.0": 0, "2.0.0": 100}
    assert promoted["previous"] == "1.0.0"
    rolled_back = await request(service, "POST", f"/versions/{NAME}/rollback", 200)
    assert {item["version"]: item["share"] for item in rolled_back["versions"]} == {"1.0.0": 100, "2.0.0": 0}
    await request(service, "DELETE", f"{VERSION}?reason=old", 204)
    assert [item["version"] for item in (await request(service, "GET", f"/versions/{NAME}"))["versions"]] == ["1.0.0"]
    overview = await request(service, "GET", "/versions")
    assert (overview["front"], len(overview["models"])) == (False, 1)
    entries = (await request(service, "GET", "/audit"))["entries"]
    assert [entry["action"] for entry in entries] == ["register", "scale", "promote", "rollback", "unregister"]
    assert (entries[0]["reason"], entries[-1]["reason"]) == ("new", "old")


async def test_force_unregisters_the_only_version(service: Service) -> None:
    problem = await request(service, "DELETE", f"/versions/{NAME}/1.0.0?force=true", 409)
    assert problem["title"] == "Conflict"
    assert "stop the server instead" in problem["detail"]


@pytest.mark.parametrize(
    ("headers", "actor"),
    [
        ({"x-key-name": "ward-7", "x-actor": "root"}, "key ward-7"),
        ({}, "user ada"),
        ({"x-actor": ""}, "unknown"),
    ],
)
async def test_the_actor_is_the_key_of_the_proxy_or_the_local_user(
    service: Service, headers: dict[str, str], actor: str
) -> None:
    await request(service, "POST", VERSION, 201, **headers)
    (entry,) = (await request(service, "GET", "/audit?limit=1"))["entries"]
    assert entry["actor"] == actor


async def test_a_deployment_is_compared_and_applied(proxied: Service) -> None:
    assert await request(proxied, "GET", "/deployment") == {
        "models": {NAME: {"versions": {"1.0.0": {"share": 100, "workers": 1}}}}
    }
    changes = (await request(proxied, "POST", "/deployment/diff", 200, SPLIT))["changes"]
    assert [change["action"] for change in changes] == ["register", "share", "share"]
    assert (await request(proxied, "PUT", "/deployment", 200, SPLIT))["changes"] == changes
    assert (await request(proxied, "POST", "/deployment/diff", 200, SPLIT))["changes"] == []


async def test_a_rollout_is_started_shown_and_aborted(proxied: Service) -> None:
    await request(proxied, "GET", f"/rollouts/{NAME}", 404)
    started = await request(proxied, "POST", f"/rollouts/{NAME}", 202, {"version": "2.0.0", "reason": None})
    assert (started["version"], started["before"], started["done"]) == ("2.0.0", "1.0.0", False)
    await request(proxied, "POST", f"/rollouts/{NAME}", 409, {"version": "2.0.0"})
    assert [item["name"] for item in (await request(proxied, "GET", "/rollouts"))["rollouts"]] == [NAME]
    aborted = await request(proxied, "DELETE", f"/rollouts/{NAME}?reason=lunch")
    assert (aborted["phase"], aborted["detail"]) == ("rolled_back", "aborted by user ada: lunch.")
    assert (await request(proxied, "GET", f"/rollouts/{NAME}"))["done"] is True


async def test_a_rollback_aborts_a_rollout_in_progress(proxied: Service) -> None:
    await request(proxied, "POST", f"/rollouts/{NAME}", 202, {"version": "2.0.0"})
    model = await request(proxied, "POST", f"/versions/{NAME}/rollback", 200, {"reason": "bad"})
    assert model["rollout"]["phase"] == "rolled_back"
    problem = await request(proxied, "POST", f"/versions/{NAME}/rollback", 409)
    assert "no previous version" in problem["detail"]


async def test_copies_are_accepted_only_during_a_shadow_and_while_the_queue_has_room(proxied: Service) -> None:
    path = f"/shadow/{NAME}"
    assert (await proxied.client.post(path, content=b"image")).status_code == 404
    await request(proxied, "POST", f"/rollouts/{NAME}", 202, {"version": "2.0.0", "shadow": 50, "step_seconds": 600})
    rollout = proxied.rollouts.get(NAME)
    await proxied.until(lambda: rollout.shadow is not None)
    proxied.torchserve.behavior.prediction_delay = 0.5
    statuses = [(await proxied.client.post(path, content=b"image")).status_code for _ in range(20)]
    assert statuses[0] == 202
    assert statuses[-1] == 503
    await request(proxied, "DELETE", f"/rollouts/{NAME}")
    assert (await proxied.client.post(path, content=b"image")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "detail"),
    [
        ("POST", VERSION, b"{", "Invalid JSON: "),
        ("POST", VERSION, b"[1]", "The body must be a JSON object."),
        ("POST", VERSION, b'{"worker": 1}', "Unknown key 'worker'. Available: workers, reason."),
        ("POST", VERSION, b'{"workers": 0}', "workers has value 0; it must be a whole number between 1 and 64."),
        ("POST", VERSION, b'{"reason": 1}', "reason has value 1; it must be text."),
        ("PATCH", VERSION, b"", "workers has value None"),
        ("PATCH", VERSION, b'{"workers": 65}', "workers has value 65"),
        ("POST", VERSION, b"x" * 1_000_001, "The body is longer than 1000000 bytes."),
        ("PUT", "/deployment", b"models: 1", "deployment: "),
        ("PUT", "/deployment", b"\xff", "utf-8"),
        ("POST", f"/rollouts/{NAME}", b'{"version": "2"}', "Invalid rollout: key 'version' has value '2'"),
        ("GET", "/audit?limit=0", b"", "limit has value '0'; it must be between 1 and 10000."),
        ("GET", "/audit?limit=many", b"", "limit has value 'many'"),
    ],
)
async def test_a_malformed_request_is_400_and_names_the_value(
    service: Service, method: str, path: str, body: bytes, detail: str
) -> None:
    response = await service.client.request(method, path, content=body)
    assert (response.status_code, response.json()["title"]) == (400, "Bad request")
    assert response.headers["content-type"] == "application/problem+json"
    assert detail in response.json()["detail"]


async def test_errors_have_the_status_of_their_cause(service: Service) -> None:
    await request(service, "POST", f"/versions/{NAME}/3.0.0", 502)  # the archive store does not have it
    with (service.store / f"{NAME}-2.0.0.mar").open("ab") as file:
        file.write(b"x")
    assert f"{NAME}-2.0.0.mar" in (await request(service, "POST", VERSION, 409))["detail"]
    await request(service, "PATCH", VERSION, 404, {"workers": 2})
    service.torchserve.behavior.scale_status = 500
    await request(service, "PATCH", f"/versions/{NAME}/1.0.0", 500, {"workers": 2})
    service.torchserve.behavior.scale_status = None
    service.torchserve.behavior.dying = True
    failed = await request(service, "PATCH", f"/versions/{NAME}/1.0.0", 502, {"workers": 2})
    assert failed["title"] == "The version failed"
    await service.version_manager.stop()
    await request(service, "POST", VERSION, 503)


async def test_unknown_paths_and_methods_are_problems(service: Service) -> None:
    assert (await request(service, "GET", "/nothing", 404))["detail"] == "Unknown path."
    assert (await request(service, "PUT", "/versions", 405))["title"] == "Method not allowed"


async def test_the_audit_log_is_verified(service: Service) -> None:
    await request(service, "POST", f"/versions/{NAME}/2.0.0", 201, {})
    verified = await request(service, "GET", "/audit/verification")
    assert (verified["entries"], verified["problem"]) == (1, None)
    assert (await request(service, "GET", f"/audit/verification?head={verified['head']}")) == verified
    other = await request(service, "GET", f"/audit/verification?head={'ab' * 32}")
    assert "no line has the digest" in other["problem"]
