"""Tests of radserve.versions.torchserve_api over HTTP against a fake TorchServe."""

import pytest

from tests.radserve.versions.conftest import NAME, Service

pytestmark = pytest.mark.anyio


async def test_reading_requests_are_forwarded(service: Service) -> None:
    assert (await service.client.get("/models?limit=5")).json()["models"][0]["modelName"] == NAME
    assert service.torchserve.requests[-1] == ("GET", "/models", {"limit": "5"})
    assert (await service.client.get(f"/models/{NAME}/1.0.0")).json()[0]["minWorkers"] == 1
    missing = await service.client.get(f"/models/{NAME}/9.0.0")
    assert (missing.status_code, missing.json()["type"]) == (404, "ModelVersionNotFoundException")


async def test_a_reading_request_fails_if_torchserve_does_not_respond(service: Service) -> None:
    service.torchserve.die()
    response = await service.client.get("/models")
    assert response.status_code == 500
    assert response.json()["detail"].startswith("TorchServe does not respond (")


async def test_changes_are_verified_and_recorded(service: Service) -> None:
    client = service.client
    registered = await client.post("/models", params={"url": f"{NAME}-2.0.0.mar", "initial_workers": "2"})
    assert registered.json() == {"status": 'Model "brightness" Version: 2.0.0 registered'}
    assert service.shares == {"1.0.0": 100, "2.0.0": 0}
    scaled = await client.put(f"/models/{NAME}/2.0.0", params={"min_worker": "1"})
    assert scaled.json() == {"status": "Workers scaled to 1 for model: brightness, version: 2.0.0"}
    default = await client.put(f"/models/{NAME}/2.0.0/set-default")
    assert "successfully updated" in default.json()["status"]
    assert service.shares == {"1.0.0": 0, "2.0.0": 100}
    assert (await client.delete(f"/models/{NAME}/1.0.0", params={"reason": "old"})).status_code == 200
    assert service.registered == {"2.0.0"}
    entries = service.deployment_state.audit.entries(10)
    assert [entry.action for entry in entries] == ["register", "scale", "promote", "unregister"]
    assert entries[-1].reason == "old"


async def test_a_path_without_a_version_means_the_main_version(service: Service) -> None:
    assert (await service.client.put(f"/models/{NAME}", params={"max_worker": "3"})).status_code == 200
    assert service.version_manager.declared_versions(NAME)["1.0.0"].workers == 3
    assert (await service.client.delete(f"/models/{NAME}")).status_code == 409
    assert (await service.client.put("/models/lung", params={"min_worker": "1"})).status_code == 404


async def test_only_archives_of_the_model_store_can_be_registered(service: Service) -> None:
    for url in ("http://127.0.0.1:9/x.mar", "../x.mar", ""):
        response = await service.client.post("/models", params={"url": url})
        assert response.status_code == 404
        assert "must be the file name of an archive in the model store" in response.json()["detail"]
    assert service.registered == {"1.0.0"}


async def test_an_invalid_number_of_workers_is_rejected(service: Service) -> None:
    for method, path in (("POST", f"/models?url={NAME}-2.0.0.mar&initial_workers=x"), ("PUT", f"/models/{NAME}")):
        response = await service.client.request(method, path)
        assert (response.status_code, response.json()["title"]) == (400, "Bad request")
