"""Networks of torchvision and of a MONAI bundle, from the command line to a prediction."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import command_line
from tests.radserve.build import bundles
from tests.server import Server, running

pytestmark = pytest.mark.e2e

SIZE = ("--labels", "calm,rough", "--height", 32, "--width", 32)


def radserve(*arguments: object) -> None:
    done = command_line.run(*arguments)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archives")


@pytest.fixture(scope="module")
def own_server(archives: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("own")
    bundle = bundles.write(folder / "bundle", *bundles.segmentation())
    radserve("init", "drawn", *SIZE, "--network", "torchvision:squeezenet1_1", "--archives", archives)
    radserve("import", "torchvision:resnet18", "taken", *SIZE, "--color", "rgb", "--archives", archives)
    radserve("import", "monai-bundle", bundle, "island", "--approximate", "--archives", archives)
    radserve("build", "--untrained", "--archives", archives, "--model-store", folder / "store")
    with running(folder / "store", folder / "log") as server:
        yield server


@pytest.mark.parametrize("name", ["drawn", "taken"])
def test_a_network_of_torchvision_predicts_and_explains(own_server: Server, archives: Path, name: str) -> None:
    sample = (archives / name / "sample.png").read_bytes()
    document = httpx.post(f"{own_server.url}/predictions/{name}", content=sample, timeout=60).json()
    assert set(document["probabilities"]) == {"calm", "rough"}
    assert document["model"]["version"] == "0.0.0"
    assert document["warning"].startswith("Untrained")
    explained = httpx.post(f"{own_server.url}/explanations/{name}", content=sample, timeout=60).json()
    assert explained["explanation"]["method"] == "grad-cam"


def test_a_monai_bundle_predicts_a_mask(own_server: Server, archives: Path) -> None:
    sample = (archives / "island" / "sample.png").read_bytes()
    document = httpx.post(f"{own_server.url}/predictions/island", content=sample, timeout=60).json()
    assert document["label"] in ("background", "island")
    assert document["model"]["version"] == "0.4.2"
    assert "This is an example" in document["warning"]
