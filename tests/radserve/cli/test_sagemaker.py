import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from handlers.profile import SiteProfile
from radserve.build import model_store as store_index
from radserve.cli import sagemaker
from radserve.cli.main import app
from radserve.errors import ArchiveError, SiteProfileError
from radserve.server.options import ServerOptions
from radserve.site import signed_profile
from radserve.store import signature
from radserve.torchserve.verified_models import select
from tests.handlers.test_profile import site_profile
from tests.radserve.minimal_archive import write_archive


@pytest.fixture
def unpacked(store: Path, tmp_path: Path) -> Path:
    """Return a folder with an archive and no index, as unpacked by SageMaker."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in store.glob("*.mar"):
        shutil.copy2(file, folder)
    return folder


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def test_an_archive_without_an_index_is_accepted(unpacked: Path, scratch: Path) -> None:
    entry = sagemaker.prepare_store(unpacked, scratch)
    (model,) = select(scratch, [])
    assert model.entry.name == entry.name == "chest-xray-cnn"


def test_an_archive_must_match_its_index(store: Path, unpacked: Path, scratch: Path) -> None:
    shutil.copy2(store / store_index.FILE, unpacked)
    (file,) = unpacked.glob("*.mar")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    sagemaker.prepare_store(unpacked, scratch)
    with pytest.raises(ArchiveError, match="has sha256"):
        select(scratch, [])


def test_an_archive_missing_in_the_index_is_rejected(unpacked: Path, scratch: Path) -> None:
    store_index.write(unpacked, store_index.Index())
    with pytest.raises(ArchiveError, match=r"not listed in index\.json in the same folder"):
        sagemaker.prepare_store(unpacked, scratch)


def test_the_unpacked_files_are_not_changed(unpacked: Path, scratch: Path) -> None:
    before = {file.name: file.read_bytes() for file in unpacked.iterdir()}
    sagemaker.prepare_store(unpacked, scratch)
    assert {file.name: file.read_bytes() for file in unpacked.iterdir()} == before


def test_a_folder_without_an_archive_is_rejected(tmp_path: Path, scratch: Path) -> None:
    with pytest.raises(ArchiveError, match=r"exactly one archive \(\.mar\), has none"):
        sagemaker.prepare_store(tmp_path, scratch)


def test_a_folder_with_two_archives_is_rejected(unpacked: Path, scratch: Path) -> None:
    (unpacked / "other.mar").write_bytes(b"")
    with pytest.raises(ArchiveError, match=r"has chest-xray-cnn-1\.0\.0\.mar, other\.mar"):
        sagemaker.prepare_store(unpacked, scratch)


def test_an_invalid_archive_is_rejected(tmp_path: Path, scratch: Path) -> None:
    (tmp_path / "model.mar").write_bytes(b"PK")
    with pytest.raises(ArchiveError, match="not a valid archive"):
        sagemaker.prepare_store(tmp_path, scratch)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[ServerOptions]:
    """Return the options of each server that starts."""
    options: list[ServerOptions] = []

    async def serve(started: ServerOptions, _: Callable[[str], None]) -> int:
        options.append(started)
        return 0

    monkeypatch.setattr("radserve.server.supervisor.serve", serve)
    return options


def sign(profile: SiteProfile, folder: Path) -> dict[str, str]:
    """Sign a profile, and return the variables of the environment that name it and its key."""
    key, file = folder / "site.key", folder / "site.json"
    signature.generate(key)
    file.write_bytes(signed_profile.seal(profile, signature.read_signing_key(key)))
    return {"RADSERVE_PROFILE": str(file), "RADSERVE_PROFILE_KEY": f"{key}.pub"}


def test_a_signed_site_profile_of_the_environment_is_served(tmp_path: Path, served: list[ServerOptions]) -> None:
    write_archive(tmp_path / "model")
    variables = sign(site_profile(), tmp_path)
    arguments = ["sagemaker", "--model", str(tmp_path / "model")]
    unverified = CliRunner().invoke(app, arguments, env={"RADSERVE_PROFILE": variables["RADSERVE_PROFILE"]})
    assert isinstance(unverified.exception, SiteProfileError)
    done = CliRunner().invoke(app, arguments, env=variables)
    assert done.exit_code == 0, done.output
    assert [item.profile for item in served[0].profiles] == [site_profile()]


@pytest.mark.parametrize("changes", [{"version": "1.1.0"}, {"model": "chest"}])
def test_a_profile_of_another_model_or_version_is_rejected(
    tmp_path: Path, served: list[ServerOptions], changes: dict[str, str]
) -> None:
    write_archive(tmp_path / "model")
    arguments = ["sagemaker", "--model", str(tmp_path / "model")]
    result = CliRunner().invoke(app, arguments, env=sign(site_profile(**changes), tmp_path))
    assert isinstance(result.exception, SiteProfileError)
    assert "this endpoint serves brightness 1.0.0" in str(result.exception)
    assert not served
