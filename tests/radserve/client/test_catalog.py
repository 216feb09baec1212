"""The models of a server or gateway."""

import pytest

from radserve.client import Client
from radserve.errors import InvalidResponseError
from tests.radserve.client.test_api_detector import GATEWAY
from tests.radserve.scripted import SHA256, Reply, Scripted, document

VERSION = {
    "version": "1.0.0",
    "sha256": SHA256,
    "share": 100,
    "task": "classification",
    "title": "Chest film",
    "labels": ["normal", "pneumonia"],
    "explains": True,
    "input": {"color": "gray", "height": 196, "width": 280},
    "trained_on": "films",
    "licence": "CC BY 4.0",
}
CATALOG = {"models": [{"name": "chest", "versions": [VERSION]}]}


@pytest.mark.parametrize(("live", "path"), [(GATEWAY, "/api/models"), (Reply(404), "/catalog")])
def test_models_are_listed_by_servers_and_gateways(client: Client, odd: Scripted, live: Reply, path: str) -> None:
    odd.live = live
    odd.say(document(CATALOG))
    (model,) = client.models()
    assert (model.name, model.versions[0].labels) == ("chest", ("normal", "pneumonia"))
    assert odd.requests[0].path == path


def test_an_undocumented_list_is_invalid(client: Client, odd: Scripted) -> None:
    odd.say(document({"models": [{"modelName": "chest"}]}))
    with pytest.raises(InvalidResponseError, match="name"):
        client.models()
