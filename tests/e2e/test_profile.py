"""A site profile under a real TorchServe."""

import subprocess
from pathlib import Path

import httpx
import pytest

from handlers import recipe as recipes
from handlers.profile import SiteProfile
from radserve.client import Client
from radserve.schema.prediction import Prediction
from radserve.site import signed_profile
from radserve.store import signature
from tests.conftest import ROOT
from tests.repack import NAME, entry_of
from tests.server import command, free_ports, running

pytestmark = pytest.mark.e2e

FOLDER = ROOT / "archives" / NAME
FILM = (FOLDER / "sample.png").read_bytes()
EMPTY = {"normal": 0.0, "pneumonia": 0.0}
"""Quantiles with which every set is empty."""


def profile(folder: Path, archive: str) -> Path:
    """Sign a profile with `site.key`, which trusts no label."""
    recipe = recipes.load(FOLDER / "archive.yaml")
    assert recipe.uncertainty is not None
    assert recipe.decision is not None
    document = SiteProfile(
        site="st-marys",
        model=NAME,
        version=recipe.version,
        archive=archive,
        calibration=recipe.calibration.model_copy(update={"bias": -1.0}),
        decision=recipe.decision,
        uncertainty=recipe.uncertainty.model_copy(update={"quantiles": EMPTY}),
        sample="by hand",
    )
    signature.generate(folder / "site.key")
    path = folder / "profile.json"
    path.write_bytes(signed_profile.seal(document, signature.read_signing_key(folder / "site.key")))
    return path


def test_a_profile_is_applied_and_named_and_a_prevalence_passes_the_proxy(store: Path, tmp_path: Path) -> None:
    path = profile(tmp_path, entry_of(store).sha256)
    options = ("--profile", str(path), "--profile-key", str(tmp_path / "site.key.pub"))
    with running(store, tmp_path / "log", *options) as server, Client(server.url) as client:
        assumed, stated = (client.predict(NAME, FILM, prevalence=share) for share in (None, 0.01))
        (model,) = httpx.get(f"{server.health_url}/catalog").json()["models"]
    assert isinstance(assumed, Prediction)
    assert isinstance(stated, Prediction)
    assert assumed.profile is not None
    assert assumed.profile.name == "st-marys"
    assert assumed.is_uncertain
    assert (assumed.prevalence, stated.prevalence) == (0.5, 0.01)
    assert stated.probabilities["pneumonia"] < assumed.probabilities["pneumonia"]
    assert stated.positive == assumed.positive
    assert model["versions"][0]["profile"] == assumed.profile.model_dump()


@pytest.mark.parametrize(
    ("archive", "key", "message"),
    [("c" * 64, "site.key.pub", "was fitted with archive cccccccccccc"), (None, "other.pub", "which is not trusted")],
)
def test_a_profile_of_another_archive_or_key_is_rejected_before_the_start(
    store: Path, tmp_path: Path, archive: str | None, key: str, message: str
) -> None:
    path = profile(tmp_path, archive or entry_of(store).sha256)
    signature.generate(tmp_path / "other")
    options = ("--profile", str(path), "--profile-key", str(tmp_path / key))
    arguments = [*command(store, free_ports(3)), *options]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert message in done.stderr
