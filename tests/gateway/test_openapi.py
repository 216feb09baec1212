"""The OpenAPI description matches the API (schemathesis with a real gateway and server)."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from openapi_spec_validator import validate

from gateway.access.authentication import CredentialAuthenticator
from gateway.api import bodies, examples
from gateway.open_inference.documents import InferenceResponse
from radserve.auth import key_file
from radserve.auth.api_keys import Role
from radserve.auth.key_check import Keyring
from radserve.schema.prediction import Prediction
from tests import gateways
from tests.conftest import ROOT
from tests.gateway.application import client, gateway
from tests.gateway.fake_backend import FakeBackend
from tests.proxy import Keys
from tests.server import Server

CONFIG = Path(__file__).parent / "schemathesis.toml"
EXAMPLES = 10
UNBOUNDED: dict[str, object] = {"rate": "100000/second", "failures": 100_000}


def verify(url: str, folder: Path, *options: str) -> None:
    """Send valid and invalid requests to every operation and check all responses; deterministic."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", f"{url}/api/openapi.json"]
    bounds = ["--max-examples", str(EXAMPLES), "--generation-deterministic", "--phases", "examples,coverage,fuzzing"]
    more = ["--checks", "all", "--generation-with-security-parameters", "false", "--continue-on-failure", "--no-color"]
    done = subprocess.run(
        [*command, *bounds, *more, *options], check=False, capture_output=True, text=True, cwd=folder, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.e2e
def test_api_with_key_matches_openapi(server: Server, keys: Keys, tmp_path: Path) -> None:
    with gateways.gateway(server, tmp_path, keys=everything(keys, tmp_path), **UNBOUNDED) as result:
        verify(result.url, tmp_path, "--header", f"X-API-Key: {(tmp_path / 'key').read_text()}")


@pytest.mark.e2e
def test_api_without_keys_matches_openapi(server: Server, tmp_path: Path) -> None:
    with gateways.gateway(server, tmp_path, **UNBOUNDED) as result:
        verify(result.url, tmp_path, "--exclude-checks", "ignored_auth")


def everything(keys: Keys, folder: Path) -> Path:
    """Create a key with all roles; the keys of the session have one each."""
    file = folder / "keys.json"
    file.write_bytes(keys.file.read_bytes())
    file.chmod(0o600)
    (folder / "key").write_text(key_file.create(file, "all", list(Role)))
    return file


def test_secured_operations_authenticate_first(keys: Keys) -> None:
    backend = FakeBackend()
    values = {"name": "chest-xray-cnn", "version": "1.0.0", "result_id": "01234567-0123-7123-8123-0123456789ab"}
    values["case_id"] = "1"

    async def ask() -> None:
        async with client(gateway(CredentialAuthenticator(Keyring.open(str(keys.file))), backend=backend)) as http:
            described = (await http.get("/api/openapi.json")).json()
            for path, operations in described["paths"].items():
                for method, operation in operations.items():
                    free = path in ("/live", "/ready", "/v2", "/v2/health/live", "/v2/health/ready")
                    assert ("security" in operation) is not free, path
                    response = await http.request(method, path.format(**values), content=b"x")
                    assert (response.status_code == 401) is not free, path

    asyncio.run(ask())
    assert backend.requests == []


def test_openapi_describes_all_responses() -> None:
    async def ask() -> None:
        async with client(gateway()) as http:
            described = (await http.get("/api/openapi.json")).json()
            assert set(described["components"]["securitySchemes"]) == {"bearer", "key"}
            answers = described["paths"]["/api/predictions/{name}"]["put"]["responses"]
            assert {"200", "400", "401", "403", "404", "408", "413", "415", "422", "429", "502", "503", "504"} <= set(
                answers
            )
            kinds = answers["200"]["content"]["application/json"]["schema"]["anyOf"]
            named = {kind["$ref"].rpartition("/")[2] for kind in kinds}
            assert named == {"Prediction", "Segmentation", "ResultList"}
            assert "422" in answers
            assert set(answers["422"]["content"]) == {"application/problem+json"}

    asyncio.run(ask())


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    """Return path, method and description of every operation."""
    paths = gateway().openapi()["paths"]
    return [(path, method, operation) for path, item in paths.items() for method, operation in item.items()]


def test_the_document_is_valid_openapi_and_names_its_servers() -> None:
    document = gateway().openapi()
    validate(document)
    for base in ("http://127.0.0.1:8000/", "https://example.org/radiology/"):  # a proxy may add a prefix
        assert urljoin(f"{base}api/openapi.json", document["servers"][0]["url"]) == base
    assert {tag["name"] for tag in document["tags"]} == {tag for _, _, item in operations() for tag in item["tags"]}


@pytest.mark.parametrize(("path", "method", "operation"), operations())
def test_every_operation_has_a_name_a_summary_a_description_and_at_most_one_type_of_body(
    path: str, method: str, operation: dict[str, Any]
) -> None:
    assert operation["operationId"].isidentifier()
    assert len(operation["summary"].split()) >= 3
    assert operation["description"] != operation["summary"]
    content = operation.get("requestBody", {"content": {"none": {"schema": {}}}})["content"]
    ((_, body),) = content.items()
    assert "anyOf" not in body["schema"]
    assert all(item["schema"] and item.get("description") for item in operation.get("parameters", ())), path


def test_operations_have_different_names() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)
    assert {"predict_image", "predict_json", "predict_files"} <= set(names)


def test_examples_of_responses_are_valid() -> None:
    Prediction.model_validate(examples.PREDICTION)
    InferenceResponse.model_validate(examples.INFERENCE)


def test_documents_with_the_assurances_of_the_page_about_scopes_are_valid() -> None:
    page = (ROOT / "docs" / "scope.md").read_text(encoding="utf-8")
    (stated,) = re.findall(r'`"assurances": (\{[^}]+\})`', page)
    assurances = {"assurances": json.loads(stated)}
    bodies.EncodedImage.model_validate({"image": "ZmlsbQ=="} | assurances)
    several = bodies.EncodedImages.model_validate({"instances": [{"b64": "ZmlsbQ=="} | assurances]} | assurances)
    assert several.instances[0].model_dump()["assurances"] == assurances["assurances"]


@pytest.mark.parametrize("verb", ["predictions", "explanations"])
@pytest.mark.parametrize("version", ["", "/1.0.0"])
def test_files_accept_forms_only_and_the_other_paths_every_body(verb: str, version: str) -> None:
    path = f"/api/{verb}/chest{version}"
    form: dict[str, Any] = {"files": [("file", ("a.png", b"film"))]}
    others: list[dict[str, Any]] = [{"content": b"film"}, {"json": {"image": "ZmlsbQ=="}}]

    async def ask() -> None:
        async with client(gateway()) as http:
            for method in ("POST", "PUT"):
                for body in (form, *others):
                    assert (await http.request(method, path, **body)).status_code == 200
            assert (await http.post(f"{path}/files", **form)).json()["filename"] == "a.png"
            for body in others:
                refused = await http.post(f"{path}/files", **body)
                assert refused.status_code == 415
                assert "must be a form (multipart/form-data)" in refused.json()["detail"]

    asyncio.run(ask())
