"""The description of the API is complete and true: schemathesis asks a real gateway before a real server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.access.api_keys import ApiKeyAuthenticator
from tests import gateways
from tests.front import Keys
from tests.gateway.application import client, gateway
from tests.gateway.fake_backend import FakeBackend
from tests.server import Server

CONFIG = Path(__file__).parent / "schemathesis.toml"
EXAMPLES = 10
UNBOUNDED: dict[str, object] = {"rate": "100000/second", "failures": 100_000}


def verify(url: str, folder: Path, *options: str) -> None:
    """Ask each operation with what it takes and what it does not, the same in each run, and judge all answers."""
    words = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", f"{url}/api/openapi.json"]
    bounds = ["--max-examples", str(EXAMPLES), "--generation-deterministic", "--phases", "examples,coverage,fuzzing"]
    more = ["--checks", "all", "--generation-with-security-parameters", "false", "--continue-on-failure", "--no-color"]
    done = subprocess.run(
        [*words, *bounds, *more, *options], check=False, capture_output=True, text=True, cwd=folder, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.e2e
def test_with_a_key_the_api_is_as_described(server: Server, keys: Keys, tmp_path: Path) -> None:
    with gateways.gateway(server, tmp_path, keys=everything(keys, tmp_path), **UNBOUNDED) as found:
        verify(found.url, tmp_path, "--header", f"X-API-Key: {(tmp_path / 'key').read_text()}")


@pytest.mark.e2e
def test_without_keys_the_api_is_as_described(server: Server, tmp_path: Path) -> None:
    with gateways.gateway(server, tmp_path, **UNBOUNDED) as found:
        verify(found.url, tmp_path, "--exclude-checks", "ignored_auth")


def everything(keys: Keys, folder: Path) -> Path:
    """Make a key with all roles; the keys of the session have one each."""
    from radserve.auth import key_file
    from radserve.auth.api_keys import Role

    file = folder / "keys.json"
    file.write_bytes(keys.file.read_bytes())
    file.chmod(0o600)
    (folder / "key").write_text(key_file.create(file, "all", list(Role)))
    return file


def test_every_operation_that_says_so_asks_for_a_key_before_anything_else(keys: Keys) -> None:
    backend = FakeBackend()
    values = {"name": "chest-xray-cnn", "version": "1.0.0", "identity": "01234567-0123-7123-8123-0123456789ab"}

    async def ask() -> None:
        async with client(gateway(ApiKeyAuthenticator.open(str(keys.file)), backend=backend)) as http:
            described = (await http.get("/api/openapi.json")).json()
            for path, operations in described["paths"].items():
                for method, operation in operations.items():
                    free = path in ("/live", "/ready")
                    assert ("security" in operation) is not free, path
                    answer = await http.request(method, path.format(**values), content=b"x")
                    assert (answer.status_code == 401) is not free, path

    asyncio.run(ask())
    assert backend.requests == []


def test_the_description_names_every_kind_of_answer() -> None:
    async def ask() -> None:
        async with client(gateway()) as http:
            described = (await http.get("/api/openapi.json")).json()
            assert set(described["components"]["securitySchemes"]) == {"bearer", "key"}
            answers = described["paths"]["/api/predictions/{name}"]["post"]["responses"]
            assert {"200", "400", "401", "403", "404", "408", "413", "415", "422", "429", "502", "503", "504"} <= set(
                answers
            )
            kinds = answers["200"]["content"]["application/json"]["schema"]["anyOf"]
            named = {kind["$ref"].rpartition("/")[2] for kind in kinds}
            assert named == {"OneClassification", "OneSegmentation", "Predictions"}
            assert "422" in answers
            assert set(answers["422"]["content"]) == {"application/problem+json"}

    asyncio.run(ask())
