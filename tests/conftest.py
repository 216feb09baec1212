"""Shared fixtures: the data beside the repository, a model store, one running server, one proxy."""

import os
import signal
import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import yaml
from PIL import Image as Pillow

from handlers import recipe
from handlers.recipe import Recipe
from radserve.build import builder
from radserve.build.export import export
from radserve.build.source import find_sources
from tests import built_archives
from tests.authority import Authority
from tests.built_archives import Provide
from tests.ci_skips import pytest_runtest_makereport
from tests.coverage_scope import pytest_runtest_protocol
from tests.proxy import Keys, Proxy, make_keys, running_proxy
from tests.repack import NAME
from tests.server import Server, running

__all__ = ["pytest_runtest_makereport", "pytest_runtest_protocol"]  # pytest calls them here

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--firefox", action="store_true", help="run every test of the page in Firefox too")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files with long set-ups first, so that the test processes end at about the same time."""
    slow, e2e = ({item.path for item in items if mark in item.keywords} for mark in ("slow", "e2e"))
    items.sort(key=lambda item: (item.path not in slow, item.path not in e2e))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real images; they are not part of the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the images in {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def provide(tmp_path_factory: pytest.TempPathFactory) -> Provide:
    """Add archives to a model store that all test processes of this run share."""
    folder = tmp_path_factory.getbasetemp()
    run = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    return partial(built_archives.provide, run / "archives")


@pytest.fixture(scope="session")
def store(provide: Provide, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold the archive of the chest model, built from this checkout; tests/e2e/test_all_models.py has all."""
    folder = tmp_path_factory.mktemp("store")
    provide(folder, find_sources(ROOT / "archives", [NAME]))
    return folder


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Hold a key for each role, which `server` knows."""
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold the runtime folder of `server`."""
    return tmp_path_factory.mktemp("runtime")


@pytest.fixture(scope="session")
def server(store: Path, keys: Keys, runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run one TorchServe under its supervisor, for all tests that only ask it; loopback, so keys are the proxy's."""
    options = ("--keys", str(keys.file), "--runtime", str(runtime), "--workers", "2")
    with running(store, tmp_path_factory.mktemp("server") / "log", *options) as started:
        yield started


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Hold an authority that signs certificates for tests."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def proxy(
    server: Server, keys: Keys, runtime: Path, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """Run one nginx with TLS before `server`, for all tests that only ask it."""
    tls = (authority, authority.issue("front"))
    with running_proxy(server, runtime, keys, tmp_path_factory.mktemp("front"), tls) as started:
        yield started


@pytest.fixture(autouse=True, scope="session")
def _certificate_authorities_are_loaded_once() -> Iterator[None]:
    """Share httpx's default TLS context, which takes 50 ms of CPU for each client, even without TLS."""
    default = httpx.create_ssl_context()

    def create(verify: ssl.SSLContext | str | bool = True, cert: Any = None, trust_env: bool = True) -> ssl.SSLContext:
        if verify is True and cert is None:
            return default
        return httpx.create_ssl_context(verify=verify, cert=cert, trust_env=trust_env)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", create)
        yield


@pytest.fixture(autouse=True)
def _signals_of_one_test_reach_no_other_test() -> Iterator[None]:
    """Take back what `radserve.host.stop_signals` does in this process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


class Brightness(torch.nn.Module):
    """The smallest network: the brighter the image, the more probable the second label."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 2, 1, bias=False)
        self.conv.weight.data = torch.tensor([[-1.0] * 3, [1.0] * 3]).view(2, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.conv(x)
        return {"logits": features.mean((2, 3)), "features": features}


def brightness_recipe() -> dict[str, object]:
    """Return the recipe of `Brightness` as data, to be changed by tests."""
    return {
        "name": "brightness",
        "version": "1.0.0",
        "task": "classification",
        "title": "Bright or dark",
        "network": "brightness",
        "labels": ["dark", "bright"],
        "input": {
            "color": "gray",
            "channels": 3,
            "height": 16,
            "width": 24,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.25, 0.25, 0.25],
        },
        "activation": "softmax",
        "decision": {"positive": "bright", "threshold": 0.6, "chosen": "by hand"},
        "calibration": {"temperature": 2.0, "fitted": "by hand"},
        "weights": {"file": "weights.safetensors", "sha256": "0" * 64},
        "sample": "sample.png",
        "trained_on": "nothing",
        "licence": "Apache-2.0",
    }


@pytest.fixture(scope="session")
def brightness_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpacked archive of `Brightness`: what a worker finds in its model_dir."""
    folder = tmp_path_factory.mktemp("brightness")
    (folder / "archive.yaml").write_text(yaml.safe_dump(brightness_recipe()), encoding="utf-8")
    read = recipe.load(folder / "archive.yaml")
    export(Brightness().eval(), (3, 16, 24), folder / "program.pt2")
    gradient = np.tile(np.linspace(40, 240, 96).astype(np.uint8), (64, 1))
    Pillow.fromarray(gradient).save(folder / "sample.png")
    answer = builder.predict_sample(folder, read)
    (folder / "sample.json").write_text(answer, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def brightness(brightness_archive: Path) -> Recipe:
    """Recipe of `Brightness`."""
    return recipe.load(brightness_archive / "archive.yaml")
