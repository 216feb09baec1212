"""Catalog, cards and samples through the proxy."""

import json

import pytest

from tests.conftest import ROOT
from tests.proxy import Proxy, problem
from tests.repack import NAME
from tests.server import Server

pytestmark = pytest.mark.e2e

PATHS = ("/catalog", f"/catalog/{NAME}/1.0.0/card", f"/catalog/{NAME}/1.0.0/sample")
ARCHIVE = ROOT / "archives" / NAME


def test_the_catalog_lists_the_served_models(proxy: Proxy, server: Server) -> None:
    with proxy.client() as client:
        answer, card, sample = (client.get(path) for path in PATHS)
    (model,) = answer.json()["models"]
    (version,) = model["versions"]
    (entry,) = json.loads((server.store / "index.json").read_bytes())["archives"]
    assert (model["name"], version["version"], version["sha256"]) == (NAME, "1.0.0", entry["sha256"])
    assert (version["labels"], version["share"], version["explains"]) == (["normal", "pneumonia"], 100, True)
    assert card.headers["content-type"].startswith("text/markdown")
    assert card.content == (ARCHIVE / "CARD.md").read_bytes()
    assert sample.content == (ARCHIVE / "sample.png").read_bytes()


@pytest.mark.parametrize(("role", "status"), [(None, 401), ("read", 403), ("manage", 403)])
def test_the_catalog_needs_the_role_predict(proxy: Proxy, role: str | None, status: int) -> None:
    with proxy.client(role) as client:
        for path in PATHS:
            problem(client.get(path), status)


def test_the_catalog_is_read_only(proxy: Proxy) -> None:
    with proxy.client() as client:
        assert client.head("/catalog").status_code == 200
        for method in ("POST", "PUT", "DELETE"):
            assert client.request(method, "/catalog").headers["allow"] == "GET, HEAD"
